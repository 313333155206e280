"""What does a number's course say, over epochs or over layers?

Curves are plain sequences in the order of training or of depth, such as a `ProbeGrid`
gives. Transforms return curves; where a point cannot be decided, no curve is returned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Real

from repscope._checking import (
    InputError,
    Undecidable,
    UsageError,
    check_choice,
    check_length,
)
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.paired_bootstrap import central_interval, paired_draws
from repscope.records import Detail

# Share of the whole change at which a curve counts as saturated.
SATURATED_SHARE = 0.95

Values = Real[np.ndarray, " t"] | Sequence[float | int]
Interval = tuple[float, float] | None
# Names in the catalogue of what a grid measures.
ClusteringMeasure = Literal[
    "ncc_accuracy",
    "squared_hinge_accuracy",
    "linear_accuracy",
    "ridge_accuracy",
    "cdnv",
    "within_variance",
    "between_squared_distance",
]


def as_curve(values: Values, name: str = "values") -> Float[np.ndarray, " t"]:
    """Return a curve as float64.

    Args:
        values: one number per epoch or layer.
        name: what to call it in an error.

    Raises:
        InputError: where it is empty, has more than one dimension, or a point is NaN
            or infinite.
    """
    curve = np.asarray(values, dtype=np.float64)
    if curve.ndim != 1 or len(curve) == 0:
        raise InputError(
            f"{name}: a curve is needed",
            found=f"shape {curve.shape}",
            expected="one number per epoch or layer",
        )
    bad = np.flatnonzero(~np.isfinite(curve))
    if len(bad):
        raise InputError(
            f"{name}: point {bad[0]} is no number",
            found=str(curve[bad[0]]),
            expected="finite numbers",
            fix="leave out the points that could not be decided",
        )
    return curve


def normalised_curve(values: Values) -> Float[np.ndarray, " t"]:
    """Return a curve relative to its beginning, x_t / x_0.

    Args:
        values: one number per epoch; the first is that of the initialisation.

    Returns:
        The curve, which begins at 1.

    Raises:
        InputError: where it is no curve of finite numbers.
        Undecidable: where it begins at 0, or the ratio exceeds the range of float64.

    Source: Ben-Shaul et al. 2023, Fig. 2. As in the source.

    Example:
        >>> normalised_curve([0.25, 0.5, 0.75]).tolist()
        [1.0, 2.0, 3.0]
    """
    curve = as_curve(values)
    return _ratio(curve, np.full_like(curve, curve[0]), "the curve begins at 0")


def chance_corrected(
    values: Values, chance: float | int | Values
) -> Float[np.ndarray, " t"]:
    """Return accuracies above guessing, (x_t - chance) / (1 - chance).

    Args:
        values: accuracies, from 0 to 1.
        chance: accuracy of guessing: one number, or one per point. 1 / c, or the
            majority share where classes are unequal.

    Returns:
        The curve: 0 is guessing, 1 perfect, negative worse than guessing.

    Raises:
        InputError: where it is no curve of finite numbers, or lengths differ.
        Undecidable: where guessing is always right.

    Source: Cohen 1960, Eq. 1 (kappa), with a fixed chance. As in the source.

    Example:
        >>> chance_corrected([0.1, 0.55, 1.0], 0.1).round(3).tolist()
        [0.0, 0.5, 1.0]
    """
    curve = as_curve(values)
    if isinstance(chance, int | float):
        chance = np.full(len(curve), float(chance))
    guessing = as_curve(chance, "chance")
    check_length("chance", len(guessing), len(curve), "the curve")
    return _ratio(curve - guessing, 1 - guessing, "guessing is always right")


def ratio_curve(above: Values, below: Values) -> Float[np.ndarray, " t"]:
    """Return the ratio of two curves, point by point.

    Superclass accuracy over class accuracy per layer, nearest-centre over linear
    accuracy per epoch.

    Args:
        above: the numerator, such as accuracy on superclasses.
        below: the denominator, such as accuracy on classes.

    Raises:
        InputError: where one is no curve of finite numbers, or lengths differ.
        Undecidable: where the denominator is 0 at a point.

    Source: Ben-Shaul et al. 2023, Figs. 2 and 5. As in the source.

    Example:
        >>> ratio_curve([0.6, 0.9], [0.4, 0.5]).round(2).tolist()
        [1.5, 1.8]
    """
    first, second = as_curve(above, "above"), as_curve(below, "below")
    check_length("below", len(second), len(first), "the curve above")
    return _ratio(first, second, "the curve below is 0")


def semantic_random_ratio(
    semantic: Values, random: Values, of: ClusteringMeasure
) -> Float[np.ndarray, " t"]:
    """Return how much more features gather by meaning than by random targets.

    Accuracies, variance and distance: semantic / random. CDNV: random / semantic. So
    for accuracies and CDNV a larger ratio means that semantics cluster.

    Args:
        semantic: the measure on semantic labels, one number per epoch or layer.
        random: the same on random targets.
        of: the measure's name in the catalogue.

    Raises:
        InputError: where one is no curve of finite numbers, or lengths differ.
        UsageError: for an unknown measure.
        Undecidable: where the denominator is 0 at a point.

    Source: Ben-Shaul et al. 2023, Fig. 4 (right). Differs from the source in that the
    direction, which it does not state, is fixed here.

    Example:
        >>> semantic_random_ratio([0.5, 0.2], [1.0, 1.0], "cdnv").tolist()
        [2.0, 5.0]
    """
    check_choice("measure", of, get_args(ClusteringMeasure))
    if of == "cdnv":
        return ratio_curve(random, semantic)
    return ratio_curve(semantic, random)


def _ratio(
    above: Float[np.ndarray, " t"], below: Float[np.ndarray, " t"], why: str
) -> Float[np.ndarray, " t"]:
    empty = np.flatnonzero(below == 0)
    if len(empty):
        raise Undecidable(f"{why} (point {empty[0]})")
    with np.errstate(over="ignore"):
        ratio = above / below
    if not np.isfinite(ratio).all():
        raise Undecidable("a ratio exceeds the range of float64")
    return ratio


@metric(
    title="epoch of saturation",
    formula="first t with (x_t - x_0) / (x_end - x_0) ≥ 0.95",
    needs="curve",
    range="the epochs measured",
    direction="none",
    minimum_n=2,
    cost="O(t)",
    source="Ben-Shaul et al. 2023, Fig. 2 (read by eye)",
    misleads="knows only the epochs measured, and takes the last one for the end; a "
    "curve that only wavers saturates somewhere too",
)
def saturation_epoch(
    epochs: Values,
    values: Values,
    *,
    share: float = SATURATED_SHARE,
    least_change: float = 0.0,
) -> Estimate:
    """Return the first epoch at which a curve has made most of its whole change.

    The first measured t with (x_t - x_0) / (x_end - x_0) >= share; between two epochs
    nothing is interpolated.

    Args:
        epochs: ascending.
        values: the number at each epoch; rising or falling.
        share: of the whole change, above 0 and at most 1.
        least_change: a whole change up to this size counts as none.

    Returns:
        An epoch; neither direction is better. Details: `level` that was to be reached,
        `change` from first to last, `previous_epoch` that had not reached it, and
        `holds_from`, the epoch from which the curve stays beyond the level.

    Raises:
        InputError: where lengths differ, or epochs do not ascend.
        UsageError: where `share` is not within (0, 1].
        Undecidable: with fewer than two epochs, or where the curve ends where it
            began.

    Source: Ben-Shaul et al. 2023, Fig. 2. Differs from the source in giving the
    reading of its figures a formula.

    Example:
        >>> saturation_epoch([0, 3, 10, 60], [0.7, 0.75, 0.94, 0.95]).value
        10.0
    """
    times, curve = _timed(epochs, values)
    if not 0 < share <= 1:
        raise UsageError("share of the change", found=str(share), expected="(0, 1]")
    change = float(curve[-1] - curve[0])
    if abs(change) <= least_change or change == 0:
        raise Undecidable(
            f"the curve ends where it began (a change of {change:.3g}): there is "
            "nothing to saturate"
        )
    reached = (curve - curve[0]) / change >= share
    reached[-1] = True  # by definition; rounding may say otherwise
    first = int(reached.argmax())
    short = np.flatnonzero(~reached)
    return Estimate(
        float(times[first]),
        details={
            "level": float(curve[0] + share * change),
            "change": change,
            "previous_epoch": float(times[first - 1]),
            "holds_from": float(times[short[-1] + 1]),
        },
    )


def _timed(
    epochs: Values, values: Values
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    times, curve = as_curve(epochs, "epochs"), as_curve(values)
    check_length("values", len(curve), len(times), "the epochs")
    if not (np.diff(times) > 0).all():
        raise InputError("epochs: they do not ascend", expected="each epoch once")
    if len(times) < 2:
        raise Undecidable("one epoch only: there is no course")
    return times, curve


@metric(
    title="nearest centres relative to a linear probe",
    formula="NCC test accuracy / linear test accuracy, same test rows",
    needs="probe",
    range="[0, ∞), about 1 where classes are round",
    bounds=(0.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift",),
    cost="free once both are probed",
    source="Ben-Shaul et al. 2023, Fig. 2 (middle)",
    misleads="near 1 where both only guess",
)
def ncc_linear_ratio(
    ncc_right: Bool[np.ndarray, " n"],
    linear_right: Bool[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Estimate:
    """Return how much of the linear accuracy nearest class centres reach.

    Args:
        ncc_right: per test row, whether the nearest training class centre is right.
        linear_right: the same for the linear probe, same rows.
        seed: of the bootstrap over test rows.

    Returns:
        From 0; 1 where both are equal, higher is better. Interval: paired bootstrap;
        none where draws without a linear hit leave it open.

    Raises:
        InputError: where the lengths differ.
        Undecidable: without test rows, or where the linear probe is never right.

    Source: Ben-Shaul et al. 2023, Fig. 2. As in the source.

    Example:
        >>> right = np.array([True, True, True, False])
        >>> ncc_linear_ratio(np.array([True, False, True, True]), right).value
        1.0
    """
    check_length("linear_right", len(linear_right), len(ncc_right), "test rows")
    if not linear_right.any():
        raise Undecidable(
            "the linear probe is never right" if len(linear_right) else "no test rows"
        )
    details: dict[str, Detail] = {
        "ncc": float(ncc_right.mean()),
        "linear": float(linear_right.mean()),
    }
    counts = paired_draws(ncc_right, linear_right, seed=seed)
    linear = counts[:, 1] + counts[:, 3]
    value = float(ncc_right.mean() / linear_right.mean())
    if (linear == 0).any():
        details["interval"] = "none: the linear probe is too seldom right"
        return Estimate(value, None, details)
    low, high = central_interval((counts[:, 2] + counts[:, 3]) / linear)
    details["interval"] = "paired bootstrap over test rows"
    return Estimate(value, (low, high), details)


@dataclass(frozen=True)
class BestLayer:
    """Where a curve over layers is best, as far as that can be told.

    Args:
        layer: the shallowest layer that cannot be told from the best.
        value: its number.
        best: the layer of the best number; of equal ones the shallowest.
        best_value: the best number.
        indistinguishable: all layers that cannot be told from the best, which is among
            them, shallow to deep.
    """

    layer: str
    value: float
    best: str
    best_value: float
    indistinguishable: tuple[str, ...]


def best_layer(
    layers: Sequence[str],
    values: Values,
    *,
    intervals: Sequence[Interval] | None = None,
    margin: float = 0.0,
    direction: Literal["higher", "lower"] = "higher",
) -> BestLayer:
    """Return the shallowest layer that is as good as the best.

    A layer cannot be told from the best where its number lies within the best layer's
    interval, or within `margin` of the best number; without either, only ties count.

    Args:
        layers: names, shallow to deep.
        values: one number per layer.
        intervals: the interval of each number, where it has one.
        margin: difference that does not count, from 0.
        direction: which numbers are better.

    Raises:
        InputError: where lengths differ or it is no curve of finite numbers.
        UsageError: for another direction, or a negative margin.

    Source: Ben-Shaul et al. 2023, Fig. 5 (the last layer is not always best). Differs
    from the source in saying which layers cannot be told apart.

    Example:
        >>> best_layer(["block1", "block2"], [0.95, 0.952], margin=0.01).layer
        'block1'
    """
    check_choice("direction", direction, ("higher", "lower"))
    curve = as_curve(values)
    check_length("layers", len(layers), len(curve), "the curve")
    if not margin >= 0:
        raise UsageError("margin", found=str(margin), expected="at least 0")
    sign = 1.0 if direction == "higher" else -1.0
    best = int((sign * curve).argmax())
    floor = sign * curve[best] - margin
    if intervals is not None:
        check_length("intervals", len(intervals), len(curve), "the curve")
        own = intervals[best]
        if own is not None:
            floor = min(floor, sign * own[0], sign * own[1])
    equal = np.flatnonzero(sign * curve >= floor)
    first = int(equal[0])
    return BestLayer(
        layer=layers[first],
        value=float(curve[first]),
        best=layers[best],
        best_value=float(curve[best]),
        indistinguishable=tuple(layers[k] for k in equal.tolist()),
    )
