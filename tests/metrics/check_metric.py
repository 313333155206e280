"""One test for every metric there is or will be: `check_metric(entry)`.

It knows a metric by its catalogue entry alone. The entry's parameters are filled by
name from planted data (`repscope.metrics.ingredients`), and what the entry declares -
bounds, least n, power of a common factor, invariances - is held against the data in
other forms (`planted_variants`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from metrics.planted_variants import (
    EXTREMES,
    FEW,
    LAYOUTS,
    OFFSETS,
    SCALES,
    SIGNED_SCALES,
    SPECTRA,
    TYPES,
    merged_supply,
    planted_data,
    supply,
    twice_answered,
    variant,
    with_an_empty_class,
)
from repscope.metrics.labelled_ingredients import Supply
from repscope.metrics.measuring import FROM_ELSEWHERE, parameters_of, taken_of
from repscope.metrics.metric import NOT_FINITE, Metric
from repscope.records import Measurement

# What sums of a few hundred numbers in another order may differ by.
SAME = 1e-10
# What float64 leaves of features whose mean is 1e6 deviations away, and of 1e20.
NEARLY = 1e-6


@functools.cache
def taken(entry: Metric, name: str) -> Mapping[str | None, Measurement]:
    """Return a metric's measurements of a variant, by label level."""
    return measured(entry, supply(name))


def measured(entry: Metric, of: Supply) -> Mapping[str | None, Measurement]:
    """Return a metric's measurements by label level; each is sane by itself."""
    found = {one.level: one for one, _ in taken_of(entry, of)}
    assert found
    for one in found.values():
        check_sane(one)
    return found


def check_sane(one: Measurement) -> None:
    """A value is finite and within bounds, an interval around it; or a reason is."""
    if one.value is None:
        assert one.reason.strip(), one
        assert one.reason != NOT_FINITE, one
        return
    low, high = (
        -math.inf if one.range[0] is None else one.range[0],
        math.inf if one.range[1] is None else one.range[1],
    )
    assert math.isfinite(one.value), one
    assert low <= one.value <= high, one
    if one.interval is not None:
        left, right = one.interval
        assert low <= left <= right <= high, one
        assert math.isfinite(right - left), one
        slack = 1e-12 * max(abs(left), abs(right))
        assert left - slack <= one.value <= right + slack, one
        assert one.details["interval"], one


def check_equal(
    found: Mapping[str | None, Measurement],
    expected: Mapping[str | None, Measurement],
    tolerance: float,
    *,
    factor: float = 1.0,
    intervals: bool = False,
) -> None:
    """Values agree up to rounding, the expected ones times a factor."""
    assert set(found) == set(expected)
    for level, wanted in expected.items():
        one = found[level]
        assert (one.value is None) == (wanted.value is None), (one, wanted)
        if one.value is None:
            continue
        size = tolerance * max(abs(wanted.value), 1e-3)
        assert abs(one.value / factor - wanted.value) <= size, (one, wanted)
        if intervals and wanted.interval is not None:
            check_interval(one, wanted, tolerance, factor)


def check_interval(
    one: Measurement, wanted: Measurement, tolerance: float, factor: float
) -> None:
    """Both ends agree up to rounding, the expected ones times a factor.

    Blocks of a jackknife dealt by the rows' contents are others for rows in another
    unit; such an interval agrees within half its width.
    """
    low, high = wanted.interval
    slack = tolerance * max(abs(low), abs(high))
    if "jackknife" in wanted.details["interval"]:
        slack = max(slack, (high - low) / 2)
    for end, end_wanted in zip(one.interval, wanted.interval, strict=True):
        assert abs(end / factor - end_wanted) <= slack, (one, wanted)


def check_forms(entry: Metric) -> None:
    """Type, byte order, layout and library of an array change nothing."""
    for name in (*TYPES, "bfloat16"):
        check_equal(taken(entry, name), taken(entry, f"{name} as float64"), SAME)
    for name in LAYOUTS:
        check_equal(taken(entry, name), taken(entry, "plain"), SAME)


def check_scales(entry: Metric) -> None:
    """A common factor c changes the value by c^degree."""
    signed = [(f"signed, times {c:g}", "signed", c) for c in SIGNED_SCALES]
    plain = [(f"times {c:g}", "plain", c) for c in SCALES]
    for scaled, name, c in plain + signed:
        found = taken(entry, scaled)
        if entry.degree is not None:
            factor, expected = c**entry.degree, taken(entry, name)
            # In another unit of much the same size, double precision must show.
            tolerance = 10 * SAME if c == SCALES[0] else NEARLY
            check_equal(found, expected, tolerance, factor=factor, intervals=True)


def check_extremes(entry: Metric) -> None:
    """Beyond what can be squared a value is right, or there is a reason."""
    for c in EXTREMES:
        for level, one in taken(entry, f"times {c:g}").items():
            check_scaled(one, taken(entry, "plain")[level], c, entry.degree)
    if {"features", "views"} & set(parameters_of(entry)):
        # What is called on arrays directly must stand them without being rescaled.
        for c in EXTREMES:
            data = variant(f"times {c:g}")
            found = measured(entry, data.supply(as_they_are=True))
            for level, one in found.items():
                check_scaled(one, taken(entry, "plain")[level], c, entry.degree)


def check_scaled(
    one: Measurement, plain: Measurement, c: float, degree: int | None
) -> None:
    """The value is c^degree that of plain data; or null, with a reason."""
    if one.value is None or degree is None:
        return
    if degree == 0:
        assert math.isclose(one.value, plain.value, rel_tol=NEARLY, abs_tol=1e-9), one
        return
    assert one.value != 0, one
    found, expected = math.log(abs(one.value)), math.log(abs(plain.value))
    assert math.isclose(found, expected + degree * math.log(c), rel_tol=NEARLY), one


def check_offsets(entry: Metric) -> None:
    """A common vector added to all rows changes nothing where that is declared."""
    for offset in OFFSETS:
        found = taken(entry, f"plus {offset:g}")
        if "shift" in entry.invariances:
            check_equal(found, taken(entry, f"plus and minus {offset:g}"), NEARLY)


def check_invariances(entry: Metric) -> None:
    """Rotation and repetition of all rows change nothing where that is declared."""
    plain = taken(entry, "plain")
    rotated, twice = taken(entry, "rotated"), measured(entry, supply("twice"))
    if "rotation" in entry.invariances:
        check_equal(rotated, plain, 1e-9)
    if "duplication" in entry.invariances:
        if "result" not in parameters_of(entry):
            # A function of answers is asked about the same answers, each twice.
            twice = measured(entry, twice_answered())
        check_equal(twice, plain, 1e-9)


def check_order(entry: Metric) -> None:
    """Neither the order of rows nor their shards change anything."""
    for name in ("split by ids", "signed"):
        check_equal(taken(entry, f"{name}, permuted"), taken(entry, name), SAME)
    check_equal(measured(entry, merged_supply()), taken(entry, "plain"), SAME)


def check_stress(entry: Metric) -> None:
    """Outliers, degenerate spectra and few rows give a sane number or a reason."""
    for name in ("outlier dimension", "outlier row", *SPECTRA, *FEW):
        taken(entry, name)
    found = measured(entry, with_an_empty_class())
    if entry.needs == "labels":
        check_equal(found, taken(entry, "plain"), SAME)


def check_pure(entry: Metric) -> None:
    """Two calls give the same bytes, and inputs stay as they were."""
    data = planted_data()
    before = data.features.tobytes(), data.views.tobytes(), data.other.tobytes()
    first = measured(entry, data.supply())
    after = data.features.tobytes(), data.views.tobytes(), data.other.tobytes()
    assert after == before
    assert measured(entry, data.supply()) == first


def check_least_n(entry: Metric) -> None:
    """Fewer rows than the least n give no value, and the reason says so."""
    if entry.minimum_n < 2:
        return
    rows = np.arange(entry.minimum_n - 1)
    data = planted_data().take(rows)
    data = dataclasses.replace(data, is_test=None)
    for one in measured(entry, data.supply()).values():
        assert one.value is None
        assert one.n < entry.minimum_n
        kind = "test rows" if one.split == "test" else "rows"
        assert f"at least {entry.minimum_n} {kind} are needed" in one.reason


CHECKS: Mapping[str, Callable[[Metric], None]] = {
    "forms": check_forms,
    "scales": check_scales,
    "extremes": check_extremes,
    "offsets": check_offsets,
    "invariances": check_invariances,
    "order": check_order,
    "stress": check_stress,
    "purity": check_pure,
    "least n": check_least_n,
}


def check_metric(entry: Metric) -> None:
    """Hold one metric against everything its entry declares."""
    assert entry.needs not in FROM_ELSEWHERE
    for check in CHECKS.values():
        check(entry)
