"""What labels on two levels, or two encoders, say together."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope._arrays import Array, host, namespace
from repscope._checking import Undecidable, UsageError, check_length
from repscope.metrics.failure import wilson_interval
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.noise_floor import NoiseFloor, class_margin
from repscope.metrics.paired_bootstrap import central_interval, paired_draws
from repscope.records import Detail

# Within a class: at least this many training rows of each of two subclasses.
MINIMUM_SUBCLASS_ROWS = 2
# Draws in which the reference has no skill leave the ratio open; more than the tails
# hold of them leave its interval open too.
OPEN_SHARE = (1 - CONFIDENCE) / 2

Classify = Callable[
    [Float[Array, "n d"], Int[np.ndarray, " n"], Float[Array, "m d"]],
    Int[Array, " m"],
]


@metric(
    title="subclass accuracy within its class",
    formula="mean over classes of the test accuracy of a linear probe trained within "
    "the class to tell its subclasses apart; classes weigh alike",
    needs="labels",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=8,
    degree=0,
    invariances=("shift",),
    cost="O(n d²)",
    source="Xue et al. 2023 (subclass features)",
    misleads="infinitesimal differences count as learnt where features carry no noise: "
    "set a noise floor, or read it beside the class-collapse index",
)
def subclass_given_class(
    features: Shaped[Array, "n d"],
    fine: Int[np.ndarray, " n"],
    coarse: Int[np.ndarray, " n"],
    is_test: Bool[np.ndarray, " n"],
    classify: Classify,
    *,
    noise_floor: NoiseFloor | None = None,
) -> Estimate:
    """Return how well subclasses are told apart inside their own class.

    The plain mean over classes, whatever their size: a class is judged where at least
    two of its subclasses have two training rows, on the test rows of those subclasses.

    Args:
        features: rows, train and test; with a noise floor those of the encoder, not
            standardised.
        fine: subclass codes.
        coarse: class codes.
        is_test: which rows test.
        classify: (train rows, train labels, test rows) -> predicted labels.
        noise_floor: noise added first; its margin is by default `class_margin` of the
            classes over training rows.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson's per class, combined as
        independent: value -+ sqrt(sum_c (distance to the end of c)^2) / k. Details:
        `skill` (0 is guessing the most frequent subclass, 1 is perfect), `majority`,
        `n_classes` judged, `n_test` rows and, with a noise floor, its `deviation`.

    Raises:
        Undecidable: where no class has two subclasses with training and test rows.

    Source: Xue et al. 2023; the interval: Zou, Donner 2008 (MOVER). Differs
    from the source in that one probe is trained within each class.
    """
    details: dict[str, Detail] = {}
    if noise_floor is not None:
        margin = noise_floor.margin
        if margin is None:
            kept = _rows(features, np.flatnonzero(~is_test))
            n_classes = int(coarse.max(initial=0)) + 1
            margin = class_margin(kept, coarse[~is_test], n_classes)
        features = noise_floor.added_to(features, margin)
        details["deviation"] = noise_floor.share * margin
    right, majorities, tested = [], [], []
    for one in np.unique(coarse):
        rows = _judged(fine, coarse == one, is_test)
        if rows is None:
            continue
        train, test = rows
        known, codes = np.unique(fine[train], return_inverse=True)
        answers = host(classify(_rows(features, train), codes, _rows(features, test)))
        right.append(int((known[answers] == fine[test]).sum()))
        most = known[np.bincount(codes).argmax()]
        majorities.append(float((fine[test] == most).mean()))
        tested.append(len(test))
    if not tested:
        raise Undecidable("no class has two subclasses with training and test rows")
    accuracy, interval = _mean_of_shares(right, tested)
    majority = float(np.mean(majorities))
    details |= {
        "skill": (accuracy - majority) / (1 - majority) if majority < 1 else 0.0,
        "majority": majority,
        "n_classes": len(tested),
        "n_test": sum(tested),
        "interval": "Wilson per class, combined",
    }
    return Estimate(accuracy, interval, details)


def _rows(features: Shaped[Array, "n d"], rows: Int[np.ndarray, " m"]) -> Array:
    xp = namespace(features)
    device = features.device
    return xp.take(features, xp.asarray(rows, device=device), axis=0)


def _judged(
    fine: Int[np.ndarray, " n"],
    inside: Bool[np.ndarray, " n"],
    is_test: Bool[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]] | None:
    """Return the training and test rows by which a class is judged, if it can be."""
    train, test = np.flatnonzero(inside & ~is_test), np.flatnonzero(inside & is_test)
    known, counts = np.unique(fine[train], return_counts=True)
    known = known[counts >= MINIMUM_SUBCLASS_ROWS]
    test = test[np.isin(fine[test], known)]
    if len(known) < 2 or len(test) == 0:
        return None
    return train[np.isin(fine[train], known)], test


def _mean_of_shares(
    right: list[int], tested: list[int]
) -> tuple[float, tuple[float, float]]:
    """Return the mean of independent shares, and its interval from theirs."""
    shares = np.array(right) / np.array(tested)
    ends = np.array([wilson_interval(*one) for one in zip(right, tested, strict=True)])
    below, above = np.sqrt(((ends - shares[:, None]) ** 2).sum(axis=0)) / len(shares)
    mean = float(shares.mean())
    return mean, (max(0.0, mean - float(below)), min(1.0, mean + float(above)))


@metric(
    title="suppression index",
    formula="1 - (accuracy - majority) / (reference accuracy - majority), linear "
    "probe, same test rows",
    needs="reference",
    range="(-∞, about 1]; 0 nothing lost, 1 all lost, negative: gained",
    bounds=(None, None),
    direction="lower",
    minimum_n=10,
    degree=0,
    invariances=("shift",),
    cost="free once both are probed",
    source="Xue et al. 2023 (feature suppression); Chen et al. 2021",
    misleads="a hard label set is no suppression: the reference must read it itself",
)
def suppression_index(
    correct: Bool[np.ndarray, " n"],
    reference_correct: Bool[np.ndarray, " n"],
    majority: float,
    *,
    seed: int = 0,
) -> Estimate:
    """Return the share of the reference's skill that the features have lost.

    1 - (mean(correct) - majority) / (mean(reference_correct) - majority)

    Args:
        correct: per test row, whether the probe on the features is right.
        reference_correct: the same for the probe on the reference, same rows.
        majority: accuracy of the most frequent class.
        seed: of the bootstrap over test rows.

    Returns:
        0 where nothing is lost, 1 where all is; negative where the features do better.
        Interval: paired bootstrap over test rows; none where the reference has no skill
        in more than 2.5 % of the draws, which `open_draws` counts: it could then reach
        any size.

    Raises:
        InputError: where the lengths differ.
        Undecidable: without test rows, or where the reference has no skill.

    Source: Xue et al. 2023; Chen, Luo, Li 2021 (RandBit). Differs from the source in
    that the reference may be any other features of the same images.
    """
    check_length("reference_correct", len(reference_correct), len(correct), "the test")
    n = len(correct)
    if n == 0:
        raise Undecidable("no test rows")
    own, reference = correct.mean() - majority, reference_correct.mean() - majority
    if reference <= 0:
        raise Undecidable("the reference has no skill of its own")
    value = float(1 - own / reference)
    counts = paired_draws(correct, reference_correct, seed=seed)
    drawn_own = (counts[:, 2] + counts[:, 3]) / n - majority
    drawn_reference = (counts[:, 1] + counts[:, 3]) / n - majority
    usable = drawn_reference > 0
    n_open = int((~usable).sum())
    if n_open > OPEN_SHARE * len(usable):
        reason = "none: the reference's skill is within its sampling error"
        return Estimate(value, None, {"interval": reason, "open_draws": n_open})
    return Estimate(
        value,
        central_interval(1 - drawn_own[usable] / drawn_reference[usable]),
        {"interval": "paired bootstrap over test rows", "open_draws": n_open},
    )


@metric(
    title="suppression between two trainings",
    formula="1 - (accuracy with the factor - chance) / (accuracy without - chance)",
    needs="trainings",
    range="(-∞, 1 / (1 - chance) or so]; 0 nothing lost, 1 all lost, negative: gained",
    bounds=(None, None),
    direction="lower",
    minimum_n=10,
    degree=0,
    invariances=("shift",),
    cost="free once both are probed",
    source="Chen, Luo, Li 2021 (RandBit); Xue et al. 2023",
    misleads="knows the sampling error of two test sets, not that of two trainings: "
    "repeat both with other seeds",
)
def suppression_between(
    correct_with: Bool[np.ndarray, " n"],
    correct_without: Bool[np.ndarray, " m"],
    chance: float,
) -> Estimate:
    """Return the share of skill that training with an easy factor has cost.

    1 - (mean(correct_with) - chance) / (mean(correct_without) - chance), for two
    trainings, such as on images with b > 0 random bits and with none.

    Args:
        correct_with: per test row, whether the probe is right on the encoder that was
            trained with the factor.
        correct_without: the same for the encoder trained without it; other test rows,
            or the same ones with other pictures.
        chance: accuracy of guessing, 1 / c, from 0 to below 1.

    Returns:
        0 where nothing is lost, 1 where all is; negative where training with the factor
        does better. Interval: Wilson's of both accuracies, combined as independent;
        none where the skill without the factor is within its sampling error.

    Raises:
        UsageError: where `chance` is not within [0, 1).
        Undecidable: without test rows, or where there is no skill without the factor.

    Source: Chen, Luo, Li 2021; the interval: Donner, Zou 2012 (MOVER for a
    ratio). As in the source.

    Example:
        >>> right = np.arange(100) < 40, np.arange(100) < 97
        >>> round(suppression_between(*right, 0.1).value, 3)
        0.655
    """
    if not 0 <= chance < 1:
        raise UsageError("chance", found=str(chance), expected="from 0 to below 1")
    own, other = (_skill(one, chance) for one in (correct_with, correct_without))
    if other[0] <= 0:
        raise Undecidable("the training without the factor has no skill of its own")
    value = 1 - own[0] / other[0]
    details: dict[str, Detail] = {
        "accuracy_with": own[0] + chance,
        "accuracy_without": other[0] + chance,
        "chance": chance,
    }
    if other[1] <= 0:
        reason = "none: the skill without the factor is within its sampling error"
        return Estimate(value, None, details | {"interval": reason})
    low, high = _ratio_interval(own, other)
    details["interval"] = "Wilson of both, combined"
    return Estimate(value, (1 - high, 1 - low), details)


def _skill(
    correct: Bool[np.ndarray, " n"], chance: float
) -> tuple[float, float, float]:
    """Return accuracy less chance, with the ends of its interval."""
    if len(correct) == 0:
        raise Undecidable("no test rows")
    low, high = wilson_interval(int(correct.sum()), len(correct))
    return float(correct.mean()) - chance, low - chance, high - chance


def _ratio_interval(
    above: tuple[float, float, float], below: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the interval of a ratio from (value, low, high) of both parts.

    Its ends R are where the interval of above - R below, whose width is the root of
    the squared widths of both, ends at 0. The denominator is positive with all of its
    interval; which of its ends counts depends on the sign of R.
    """
    (a, a_low, a_high), (b, b_low, b_high) = above, below
    nearer, farther = b_low * (2 * b - b_low), b_high * (2 * b - b_high)

    def root(end: float, part: float) -> float:
        return max((a * b) ** 2 - end * (2 * a - end) * part, 0.0) ** 0.5

    if a_low < 0:
        low = (a * b - root(a_low, nearer)) / nearer
    else:
        half = a * b + root(a_low, farther)
        low = a_low * (2 * a - a_low) / half if half else 0.0
    if a_high >= 0:
        high = (a * b + root(a_high, nearer)) / nearer
    else:
        high = a_high * (2 * a - a_high) / (a * b - root(a_high, farther))
    return low, high
