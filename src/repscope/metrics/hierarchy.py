"""What labels on two levels, or two encoders, say together."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from repscope._checking import Undecidable
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric

BOOTSTRAP_DRAWS = 1000
# Within a class: at least this many training rows of each of two subclasses.
MINIMUM_SUBCLASS_ROWS = 2

Classify = Callable[
    [Float[np.ndarray, "n d"], Int[np.ndarray, " n"], Float[np.ndarray, "m d"]],
    Int[np.ndarray, " m"],
]


@metric(
    title="subclass accuracy within its class",
    formula="mean over classes of the test accuracy of a linear probe trained within "
    "the "
    "class to tell its subclasses apart",
    needs="labels",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=8,
    cost="O(n d²)",
    source="Xue et al. 2023 (subclass features)",
    misleads="infinitesimal differences count as learnt where features carry no noise; "
    "read it beside the class-collapse index",
)
def subclass_given_class(
    features: Float[np.ndarray, "n d"],
    fine: Int[np.ndarray, " n"],
    coarse: Int[np.ndarray, " n"],
    is_test: Bool[np.ndarray, " n"],
    classify: Classify,
) -> Estimate:
    """Return how well subclasses are told apart inside their own class.

    Args:
        features: rows, train and test.
        fine: subclass codes.
        coarse: class codes.
        is_test: which rows test.
        classify: (train rows, train labels, test rows) -> predicted labels.

    Returns:
        From 0 to 1; higher is better. Details: `skill` (0 is guessing the most frequent
        subclass, 1 is perfect), `n_classes` judged and `n_test` rows.

    Raises:
        Undecidable: where no class has two subclasses with training and test rows.

    Source: Xue et al. 2023. Differs from the source in that one probe is trained within
    each class.
    """
    accuracies, majorities, weights = [], [], []
    for one in np.unique(coarse):
        train = np.flatnonzero((coarse == one) & ~is_test)
        test = np.flatnonzero((coarse == one) & is_test)
        known, counts = np.unique(fine[train], return_counts=True)
        known = known[counts >= MINIMUM_SUBCLASS_ROWS]
        train = train[np.isin(fine[train], known)]
        test = test[np.isin(fine[test], known)]
        if len(known) < 2 or len(test) == 0:
            continue
        codes = np.searchsorted(known, fine[train])
        predicted = known[classify(features[train], codes, features[test])]
        accuracies.append(float((predicted == fine[test]).mean()))
        most = known[np.bincount(codes).argmax()]
        majorities.append(float((fine[test] == most).mean()))
        weights.append(len(test))
    if not accuracies:
        raise Undecidable("no class has two subclasses with training and test rows")
    accuracy, majority = float(np.mean(accuracies)), float(np.mean(majorities))
    skill = (accuracy - majority) / (1 - majority) if majority < 1 else 0.0
    return Estimate(
        accuracy,
        details={
            "skill": skill,
            "majority": majority,
            "n_classes": len(accuracies),
            "n_test": int(sum(weights)),
        },
    )


@metric(
    title="suppression index",
    formula="1 - (accuracy - majority) / (reference accuracy - majority), linear "
    "probe, "
    "same test rows",
    needs="reference",
    range="(-∞, about 1]; 0 nothing lost, 1 all lost, negative: gained",
    bounds=(None, None),
    direction="lower",
    minimum_n=10,
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

    Args:
        correct: per test row, whether the probe on the features is right.
        reference_correct: the same for the probe on the reference, same rows.
        majority: accuracy of the most frequent class.
        seed: of the bootstrap over test rows.

    Returns:
        0 where nothing is lost, 1 where all is; negative where the features do better.
        Interval: paired bootstrap over test rows.

    Raises:
        Undecidable: where the reference has no skill.

    Source: Xue et al. 2023; Chen, Luo, Li 2021 (RandBit). Differs from the source in
    that the reference may be any other features of the same images.
    """
    own, reference = correct.mean() - majority, reference_correct.mean() - majority
    if reference <= 0:
        raise Undecidable("the reference has no skill of its own")
    n = len(correct)
    # Four outcomes of a row; drawing their counts is drawing rows.
    outcomes = 2 * correct.astype(int) + reference_correct.astype(int)
    shares = np.bincount(outcomes, minlength=4) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=BOOTSTRAP_DRAWS)
    drawn_own = (counts[:, 2] + counts[:, 3]) / n - majority
    drawn_reference = (counts[:, 1] + counts[:, 3]) / n - majority
    usable = drawn_reference > 0
    drawn = 1 - drawn_own[usable] / drawn_reference[usable]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(drawn, tails)
    return Estimate(
        float(1 - own / reference),
        interval=(float(low), float(high)),
        details={"interval": "paired bootstrap over test rows"},
    )
