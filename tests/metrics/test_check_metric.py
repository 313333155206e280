"""`check_metric` finds what is wrong with a metric, and passes one that is right."""

import itertools
import re

import numpy as np
import pytest

from metrics.check_metric import CHECKS, check_metric
from repscope._arrays import as_double, host
from repscope._checking import Undecidable
from repscope.metrics.metric import Estimate, metric, metric_of
from repscope.metrics.row_sums import per_row

DECLARED = {
    "title": "a number",
    "formula": "as told",
    "needs": "rows",
    "range": "real",
    "cost": "O(n d)",
    "source": "a test",
    "misleads": "always",
}


def doubled(features):
    return host(as_double(features))


def entry_of(function, **declared):
    return metric_of(metric(**(DECLARED | declared))(function))


def deviation(features):
    """Return a right answer: the root mean square distance from the mean."""
    rows = doubled(features)
    peak = np.abs(rows).max()
    unit = 2.0 ** np.floor(np.log2(peak)) if peak > 0 else 1.0
    centred = (rows - rows[0]) / unit
    centred -= centred.mean(axis=0)
    value = float(np.sqrt((centred**2).sum() / len(rows)))
    if value == 0:
        raise Undecidable("all rows are equal")
    return value * unit


def test_a_right_metric_passes():
    invariances = ("shift", "rotation", "duplication")
    check_metric(entry_of(deviation, degree=1, invariances=invariances))


def single_precision(features):
    return float(host(features).astype(np.float32).astype(np.float64).std())


def in_its_own_type(features):
    return float(np.abs(host(features)).mean(dtype=host(features).dtype))


def with_an_absolute_epsilon(features):
    rows = doubled(features)
    return float(np.abs(rows).mean() / (np.abs(rows).max() + 1e-3))


def wrong_when_extreme(features):
    with np.errstate(all="ignore"):
        return float(np.clip((doubled(features) ** 2).sum(), 0, 1e300))


def one_pass_variance(features):
    rows = doubled(features)
    return float(np.clip((rows**2).mean() - rows.mean() ** 2, 0, None))


def greatest(features):
    return float(doubled(features).max())


def sum_of_all(features):
    return float(doubled(features).sum())


def first_row(features):
    return float(doubled(features)[0].sum())


def never_a_number(features):
    return float("nan")


def below_zero(features):
    return -1.0


def divided_by_nothing(features):
    rows = doubled(features)
    return float(np.float64(rows.sum()) / rows.std())


def no_reason(features):
    raise Undecidable("")


def changes_its_input(features):
    if isinstance(features, np.ndarray) and features.flags.writeable:
        features *= 1.0000001
    return 1.0


COUNTER = itertools.count()


def another_each_time(features):
    return 1.0 + 1e-12 * next(COUNTER)


def interval_elsewhere(features):
    return Estimate(1.0, (2.0, 3.0), {"interval": "a guess"})


def interval_of_no_method(features):
    return Estimate(1.0, (0.0, 3.0))


@pytest.mark.parametrize(
    ("function", "declared", "check"),
    [
        (single_precision, {"degree": 1}, "scales"),
        (in_its_own_type, {}, "forms"),
        (with_an_absolute_epsilon, {"degree": 0}, "scales"),
        (deviation, {"degree": 2}, "scales"),
        (wrong_when_extreme, {"degree": 2}, "extremes"),
        (one_pass_variance, {"invariances": ("shift",)}, "offsets"),
        (greatest, {"invariances": ("shift",)}, "offsets"),
        (greatest, {"invariances": ("rotation",)}, "invariances"),
        (sum_of_all, {"invariances": ("duplication",)}, "invariances"),
        (first_row, {}, "order"),
        (never_a_number, {}, "stress"),
        (below_zero, {"bounds": (0.0, None)}, "stress"),
        (divided_by_nothing, {}, "stress"),
        (no_reason, {}, "stress"),
        (changes_its_input, {}, "purity"),
        (another_each_time, {}, "purity"),
        (interval_elsewhere, {}, "stress"),
        (interval_of_no_method, {}, "stress"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_metric_is_caught(function, declared, check):
    with pytest.raises((AssertionError, RuntimeWarning, KeyError)):
        CHECKS[check](entry_of(function, **declared))


def test_a_metric_of_single_rows_is_checked_by_its_mean():
    def nearly_the_mean(features):
        return per_row(features, lambda block: block.mean * block.scale)

    check_metric(entry_of(nearly_the_mean, degree=1, invariances=("duplication",)))


def test_the_least_n_is_held():
    entry = entry_of(deviation, minimum_n=4)
    CHECKS["least n"](entry)
    reason = re.escape("n = 3; at least 4 rows are needed")
    found = entry.measured(lambda: 1.0, n=3)
    assert re.fullmatch(reason, found.reason)
