"""Shares of a falling loss: by hand, in plain loops, published shape and limits."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from references import courses
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.decomposition import (
    LossCurves,
    invariance_share,
    regularization_share,
)

# Weighted terms of one VICReg run, from the specification (S3-F3L).
EPOCHS = [1, 2, 3, 10, 20, 30, 60]
INVARIANCE = [15.9, 5.9, 3.39, 2.26, 2.21, 1.90, 1.95]
REGULARIZATION = [10.7, 12.5, 13.55, 12.0, 10.3, 9.35, 8.57]
TOTAL = [a + b for a, b in zip(INVARIANCE, REGULARIZATION, strict=True)]
RUN = LossCurves.of(EPOCHS, TOTAL, INVARIANCE, REGULARIZATION)

numbers = st.floats(-100, 100).map(lambda x: round(x, 3))


def test_the_published_share():
    # (13.55 - 8.57) / (16.94 - 10.52)
    assert regularization_share(RUN, start=3).value == pytest.approx(4.98 / 6.42)
    assert regularization_share(RUN, start=3).value == pytest.approx(0.78, abs=0.005)
    # Over the whole run invariance fell most, and regularization hardly.
    assert invariance_share(RUN).value == pytest.approx(13.95 / 16.08)


def test_the_window_begins_where_invariance_is_saturated():
    # 15.9 - .95 (15.9 - 1.95) = 2.65, first reached at epoch 10.
    assert RUN.window_after_invariance() == (10.0, 60.0)
    assert RUN.window_after_invariance(share=0.89) == (3.0, 60.0)
    start, end = RUN.window_after_invariance()
    found = regularization_share(RUN, start=start, end=end)
    assert found.value == pytest.approx((12.0 - 8.57) / (14.26 - 10.52))
    assert (found.details["start"], found.details["end"]) == (10.0, 60.0)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), numbers, numbers), min_size=2, max_size=20
    )
)
def test_both_shares_are_those_of_a_plain_loop_and_add_up_to_one(rows):
    epochs = [row[0] for row in rows]
    inv, reg = [row[1] for row in rows], [row[2] for row in rows]
    total = [a + b for a, b in zip(inv, reg, strict=True)]
    curves = LossCurves.of(epochs, total, inv, reg)
    first, last = min(epochs), max(epochs)
    try:
        shares = (regularization_share(curves), invariance_share(curves))
    except Undecidable:
        return
    fall = shares[0].details["total_fall"]
    size = max(map(abs, total + inv + reg))
    for share, part in zip(shares, (reg, inv), strict=True):
        expected = courses.share_of_fall(epochs, part, total, first, last)
        assert share.value == pytest.approx(expected, rel=1e-6, abs=1e-12 * size)
    slack = 1e-6 * size / abs(fall)
    assert shares[0].value + shares[1].value == pytest.approx(1, abs=slack)


def test_a_planted_share_is_found():
    # Both parts fall linearly, regularization three times as fast.
    t = np.arange(50)
    inv, reg = 10 - 0.1 * t, 40 - 0.3 * t
    curves = LossCurves.of(t, inv + reg, inv, reg)
    for start, end in ((0, 49), (10, 20), (48, 49)):
        found = regularization_share(curves, start=start, end=end)
        assert found.value == pytest.approx(0.75)


@pytest.mark.parametrize("mu", [5, 25, 100, 1e-20, 1e20])
def test_losses_in_units_of_a_weight_have_the_same_shares(mu):
    scaled = RUN.divided_by(mu)
    np.testing.assert_allclose(scaled.total * mu, RUN.total, rtol=1e-14)
    np.testing.assert_allclose(scaled.invariance * mu, RUN.invariance, rtol=1e-14)
    for share in (regularization_share, invariance_share):
        assert share(scaled).value == pytest.approx(share(RUN).value, rel=1e-12)


def test_steps_of_one_epoch_are_averaged_in_any_order():
    order = [3, 0, 2, 1]
    rows = [
        (0, 5.0, 1.0, 4.0),
        (0, 7.0, 3.0, 4.0),
        (1, 4.0, 1.0, 3.0),
        (1, 2.0, 1.0, 1.0),
    ]
    columns = list(zip(*(rows[k] for k in order), strict=True))
    curves = LossCurves.of(*columns)
    assert curves.epochs.tolist() == [0.0, 1.0]
    assert curves.total.tolist() == [6.0, 3.0]
    assert regularization_share(curves).value == pytest.approx(2 / 3)


def test_rows_of_a_training_run_are_read():
    lines = [
        '{"step": 1, "epoch": 0, "total": 6.0, "invariance": 2.0, '
        '"regularization": 4.0, "variance": 1.0, "learning_rate": 0.1}',
        '{"step": 2, "epoch": 1, "total": 3.0, "invariance": 1.0, '
        '"regularization": 2.0, "variance": 0.5, "learning_rate": 0.1}',
    ]
    curves = LossCurves.of_rows([json.loads(line) for line in lines])
    assert regularization_share(curves).value == pytest.approx(2 / 3)


def test_float32_sums_still_split():
    generator = np.random.default_rng(0)
    inv = (generator.standard_normal(100) * 50).astype(np.float32)
    reg = (generator.standard_normal(100) * 50).astype(np.float32)
    curves = LossCurves.of(np.arange(100), inv + reg, inv, reg)
    assert len(curves.epochs) == 100


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (
            lambda: LossCurves.of([0, 1], [4.0, 2.0], [1.0, 1.0], [2.0, 1.0]),
            "no additive split: in row 0 total is 4, invariance",
        ),
        (
            lambda: LossCurves.of([0, 1], [4.0, 2.0], [None, None], [None, None]),
            "no additive split: the loss has no invariance",
        ),
        (
            lambda: LossCurves.of_rows([{"epoch": 0, "total": 1.0}]),
            "no additive split: the loss has no invariance",
        ),
        (
            lambda: regularization_share(
                LossCurves.of([0, 1], [4.0, 4.0], [1.0, 2.0], [3.0, 2.0])
            ),
            "did not change by more than rounding",
        ),
        (
            lambda: invariance_share(
                LossCurves.of([0, 1], [1e6, 1e6 + 1e-3], [0, 1e-3], [1e6, 1e6])
            ),
            "did not change by more than rounding",
        ),
        (
            lambda: invariance_share(LossCurves.of([0, 0], [4, 3], [1, 1], [3, 2])),
            "one epoch only",
        ),
        (
            lambda: LossCurves.of(
                [0, 1], [4, 2], [3, 1], [1, 1]
            ).window_after_invariance(),
            "saturated only at the last epoch",
        ),
        (
            lambda: LossCurves.of(
                [0, 1], [4, 2], [1, 1], [3, 1]
            ).window_after_invariance(),
            "ends where it began",
        ),
    ],
)
def test_no_share_without_a_split_or_a_fall(call, reason):
    with pytest.raises(Undecidable, match=reason):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LossCurves.of([0], [1, 2], [1], [0]), InputError, "total: one entry"),
        (
            lambda: LossCurves.of([0], [float("nan")], [1], [0]),
            InputError,
            "total: point 0 is no number",
        ),
        (lambda: LossCurves.of([0], [None], [1], [0]), InputError, "total: row 0"),
        (
            lambda: LossCurves.of_rows([{"total": 1.0}]),
            InputError,
            "row 0 has no 'epoch'",
        ),
        (lambda: LossCurves.of_rows([]), InputError, "a curve is needed"),
        (lambda: RUN.divided_by(0), UsageError, "weight"),
        (lambda: regularization_share(RUN, start=4), UsageError, "epoch 4 was not"),
        (
            lambda: regularization_share(RUN, start=60, end=3),
            UsageError,
            "start is not before end",
        ),
    ],
)
def test_wrong_rows_and_windows_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
