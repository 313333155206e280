"""How numbers and other people's words become text.

Numbers are rounded for reading. Words that come from labels, ids and file names lose
everything that could steer a terminal, a page or a picture.
"""

import datetime
import re

from repscope.records import Measurement

UNDECIDED = "undecided"

# Terminal commands: CSI ("ESC [ ... letter"), OSC ("ESC ] ... BEL") and two-byte ones.
_COMMANDS = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|(?:\x1b\\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\\\)?"
    "|\x1b[@-Z\\\\-_]?"
)
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
# Controls, direction overrides and code points that XML forbids. Letters of scripts
# that run from right to left stay.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_GREATEST_COUNT = 1e15


def clean(text: str) -> str:
    r"""Return text on one line, without control characters or terminal commands.

    Example:
        >>> clean("red: \x1b[31mcat\x1b[0m\n")
        'red: cat'
    """
    text = _BREAKS.sub(" ", _COMMANDS.sub("", text))
    return _LONE_SURROGATES.sub("\ufffd", _UNPRINTABLE.sub("", text)).strip()


def shorten(text: str, limit: int = 80, ellipsis: str = "\u2026") -> str:
    """Return clean text of at most `limit` characters; the middle gives way.

    Example:
        >>> shorten("a/very/long/path/to/image.png", 16, "...")
        'a/very/...ge.png'
    """
    return cut(clean(text), limit, ellipsis)


def cut(text: str, limit: int, ellipsis: str = "\u2026") -> str:
    """Return text that is clean already, cut in the middle to at most `limit`."""
    if len(text) <= limit:
        return text
    tail = (limit - len(ellipsis)) // 2
    return text[: limit - len(ellipsis) - tail] + ellipsis + text[len(text) - tail :]


def rounded(value: float | int | None) -> str:
    """Return a number for reading: three significant digits; integers in full.

    Args:
        value: None reads "undecided".

    Example:
        >>> [rounded(value) for value in (0.98765, 1, 1234.5, 0.0000123, None)]
        ['0.988', '1', '1,234', '1.23e-05', 'undecided']
    """
    if value is None:
        return UNDECIDED
    size = abs(value)
    if float(value).is_integer() and size < _GREATEST_COUNT:
        return f"{value + 0.0:,.0f}"  # minus zero is zero
    if 100 <= size < 1e6:
        return f"{value:,.0f}"
    if 0.001 <= size < 100:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.2e}"


def fixed(value: float) -> str:
    """Return a number with three significant digits, also where it is whole.

    Example:
        >>> [fixed(value) for value in (1.0, 25.0, 0.5, 0.0, 1234.0)]
        ['1.00', '25.0', '0.500', '0.00', '1,234']
    """
    is_short = abs(value) < 100 and float(value).is_integer()
    return f"{value + 0.0:#.3g}" if is_short else rounded(value)


def capital(text: str) -> str:
    """Return text that begins with a capital; a word such as kNN stays as it is.

    Example:
        >>> capital("dead features"), capital("kNN accuracy")
        ('Dead features', 'kNN accuracy')
    """
    text = clean(text)
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def moment_text(moment: str) -> str:
    """Return an ISO 8601 time to the minute; any other text as it is.

    Example:
        >>> moment_text("2026-11-21T04:09:06+00:00")
        '2026-11-21 04:09 UTC'
    """
    try:
        time = datetime.datetime.fromisoformat(moment)
    except ValueError:
        return clean(moment)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".rstrip()


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval in words, empty where there is none.

    Example:
        >>> interval_text((0.91234, 0.93456))
        '0.912 to 0.935'
    """
    if interval is None:
        return ""
    return f"{rounded(interval[0])} to {rounded(interval[1])}"


def range_text(bounds: tuple[float | None, float | None]) -> str:
    """Return the possible values in words.

    Example:
        >>> range_text((0.0, 1.0)), range_text((0.0, None)), range_text((None, None))
        ('0 to 1', 'from 0', 'any')
    """
    least, greatest = bounds
    if least is None and greatest is None:
        return "any"
    if greatest is None:
        return f"from {rounded(least)}"
    if least is None:
        return f"up to {rounded(greatest)}"
    return f"{rounded(least)} to {rounded(greatest)}"


def metric_text(measurement: Measurement) -> str:
    """Return the metric's name, with the layer where it is not the features."""
    is_plain = measurement.layer == "features"
    return measurement.name + ("" if is_plain else f"@{measurement.layer}")


def better_text(measurement: Measurement) -> str:
    """Return which way is better, in a word or two; empty where there is none."""
    if measurement.direction == "target":
        return f"near {rounded(measurement.target)}"
    return "" if measurement.direction == "none" else measurement.direction


def note_text(measurement: Measurement) -> str:
    """Return why there is no value, or the details that qualify it."""
    details = "; ".join(
        f"{name.replace('_', ' ')}{':' * (name == 'interval')} {_detail_text(value)}"
        for name, value in measurement.details.items()
        if value or not isinstance(value, tuple | str)
    )
    split = "" if measurement.split == "all" else f"{measurement.split} split"
    parts = [measurement.reason or "", split, details]
    return clean("; ".join(part for part in parts if part))


def _detail_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return rounded(value)
    if isinstance(value, tuple):
        return ", ".join(_detail_text(item) for item in value)
    return str(value)
