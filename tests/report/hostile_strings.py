"""Strings that attack a page, a terminal, a picture or a spreadsheet, and a run made of
them."""

import numpy as np

from repscope.records import (
    Curve,
    Finding,
    Formula,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Series,
    Status,
    Table,
    Thumbnail,
    Verdict,
)

PAYLOADS = (
    "<script>window.__pwned=1</script>",
    "</script><script>window.__pwned=1</script>",
    "<!--<script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    '"><img src=x onerror=window.__pwned=1>',
    "' onmouseover='window.__pwned=1' x='",
    '" onfocus="window.__pwned=1" autofocus="',
    "` onclick=window.__pwned=1 `",
    "<svg onload=window.__pwned=1>",
    "<svg><script>window.__pwned=1</script></svg>",
    "</svg><img src=x onerror=window.__pwned=1>",
    "</title><script>window.__pwned=1</script>",
    "</style><script>window.__pwned=1</script>",
    "</textarea><script>window.__pwned=1</script>",
    "<iframe src=https://example.org/></iframe>",
    "<link rel=stylesheet href=https://example.org/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'>",
    "<base href=https://example.org/>",
    "javascript:window.__pwned=1",
    "data:text/html,<script>window.__pwned=1</script>",
    "{{7*7}}{% raw %}{{ record.__class__ }}",
    "${7*7} #{7*7} <%= 7*7 %>",
    r"$\frac$ $\undefined{x}$ $$",
    "&lt;script&gt;window.__pwned=1&lt;/script&gt;",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J",
    "line\r\nbreak\ttab\u2028separator\u2029end",
    "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd \u2066isolated\u2069",
    "nul\x00bell\x07back\x08 \ud800 \ufffe",
    '=HYPERLINK("https://example.org") +1 -1 @sum',
    "very long " + "\u00e4\u6f22<b>" * 3000,
)


def hostile_samples(texts, n=31):
    """Return samples whose ids, labels, predictions and column names are `texts`."""
    words = np.array([texts[place % len(texts)] for place in range(n)], dtype=object)
    level = texts[0]
    return Samples(
        columns={
            "row": np.arange(n),
            "id": words,
            f"label:{level}": words,
            f"predicted:{level}": words[::-1],
            "split": words,
            "q_score": np.linspace(0, 1, n),
            "map_x": np.sin(np.arange(n)),
            "map_y": np.cos(np.arange(n)),
            f"correct:{level}:{level}": np.arange(n) % 2 * 1.0,
            "listed": np.zeros(n, np.int64),
        }
    )


def hostile_record(text):
    """Return a run in which every word is `text`."""
    measurement = Measurement(
        name=text,
        value=None,
        reason=text,
        range=(0.0, 1.0),
        split=text,
        level=text,
        formula=text,
        details={text: text, "several": (text, 1, None)},
    )
    finding = Finding(
        code=text,
        title=text,
        status=Status.FOUND,
        severity="failure",
        explanation=text,
        action=text,
        evidence=(measurement,),
        remedies=(text,),
        rows=(1, 2),
        page=text,
    )
    curve = Curve(
        name=text,
        title=text,
        x_label=text,
        y_label=text,
        series=tuple(
            Series(label=text, x=(1.0, 2.0), y=(1.0, place)) for place in (1.0, 2.0)
        ),
        how_to_read=text,
    )
    names = ("class_accuracy", "worst_samples", text)
    tables = tuple(
        Table(name=name, title=text, columns=(text,), rows=((text,),), how_to_read=text)
        for name in names
    )
    formula = {"id": text, "title": text, "formula": text, "range": text}
    return RunRecord(
        kind="diagnosis",
        title=text,
        verdict=Verdict(word="WARN", sentence=text),
        provenance=_provenance(text),
        measurements=(measurement,),
        findings=(finding,),
        curves=(curve,),
        tables=tables,
        thumbnails=(Thumbnail(row=0, address=text, width=8, height=8),),
        glossary=(Formula(**formula, direction="none", source=text, misleads=text),),
        notices=(text,),
        next_commands=(text,),
    )


def _provenance(text):
    names = ("labels_fingerprints", "inputs", "versions", "machine")
    words = ("command", "created", "dtype", "features_fingerprint", "ids_fingerprint")
    words += ("split_fingerprint", "split_rule")
    return Provenance(
        n=31,
        d=4,
        **dict.fromkeys(words, text),
        **{name: {text: text} for name in names},
    )
