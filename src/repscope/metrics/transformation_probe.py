"""Which transformation was applied? Read from the backbone's features and the head's.

A head trained to ignore augmentation filters it out: the transformation is read better
before the head than behind it. Such a gap is evidence for what the head takes away.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from repscope._arrays import Array, as_double, as_matrix, host
from repscope._checking import InputError, check_length
from repscope.metrics.failure import wilson_interval
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.probing import ProbeResult, standardise
from repscope.records import Detail
from repscope.representations.object_ids import ObjectIds, checked_ids


@dataclass(frozen=True, eq=False)
class TransformationProbe:
    """How well a transformation is read from two layers on the same test rows.

    Args:
        features: of the first, such as the backbone's output h.
        other: of the second, such as the head's output z.
        gap: accuracy of the first less that of the second, with its paired interval.
    """

    features: ProbeResult
    other: ProbeResult
    gap: Estimate


@metric(
    title="transformation gap",
    formula="share of test rows whose transformation a logistic probe reads from h, "
    "less the share it reads from z",
    needs="pair",
    range="[-1, 1]",
    bounds=(-1.0, 1.0),
    direction="none",
    minimum_n=4,
    degree=0,
    invariances=("shift",),
    cost="O(n d c) per step",
    source="Chen et al. 2020, Section 4.2 and Table 3 (what the projection loses)",
    misleads="0 where both read the transformation perfectly, or neither: read it "
    "beside both accuracies and `chance`",
)
def transformation_gap(
    features: Array,
    other: Array,
    transformations: Array,
    is_test: Bool[np.ndarray, " m"],
    *,
    object_ids: ObjectIds | None = None,
) -> Estimate:
    """Return how much better a transformation is read from h than from z.

    Args:
        features: (n, d) of transformed images before the head, h.
        other: (n, e) of the same transformed images behind it, z.
        transformations: (n,) what was applied to each: rotation, grey or not, blurred
            or not, crop quadrant; integers or strings.
        is_test: (n,) which rows test; the others train.
        object_ids: (n,) the image of each row, where several rows show one image.

    Returns:
        From -1 to 1; above 0 where the head takes the transformation away. The interval
        is paired (`paired_interval`), and counts images rather than rows. Details:
        accuracies of both, `chance` and `majority`.

    Raises:
        InputError: for another number of rows, values that are not finite, or an image
            with rows on both sides of the split.
        Undecidable: where training or test rows are missing, or of one transformation.

    Source: Chen et al. 2020, Section 4.2. Differs from the source in a linear probe
    instead of one with a hidden layer.
    """
    return transformation_probe(
        features, other, transformations, is_test, object_ids=object_ids
    ).gap


def transformation_probe(
    features: Array,
    other: Array,
    transformations: Array,
    is_test: Bool[np.ndarray, " m"],
    *,
    object_ids: ObjectIds | None = None,
) -> TransformationProbe:
    """Return what logistic probes read of a transformation from two layers.

    Args:
        features: as in `transformation_gap`.
        other: as in `transformation_gap`.
        transformations: as in `transformation_gap`.
        is_test: as in `transformation_gap`.
        object_ids: as in `transformation_gap`.

    Raises:
        InputError: as `transformation_gap`.
        Undecidable: as `transformation_gap`.
    """
    rows = _finite_rows(features, "features")
    behind = _finite_rows(other, "other")
    names = np.asarray(host(transformations))
    for argument, given in (
        ("other", behind),
        ("transformations", names),
        ("is_test", is_test),
    ):
        check_length(argument, len(given), len(rows))
    n_images = _test_images(object_ids, is_test)
    distinct, codes = np.unique(names, return_inverse=True)
    train, test = codes[~is_test], codes[is_test]

    def read(given: Float[np.ndarray, "n k"]) -> ProbeResult:
        shown, asked = standardise(given[~is_test], given[is_test])
        return logistic_probe(shown, train, asked, test, len(distinct))

    first, second = read(rows), read(behind)
    right, right_other = first.predictions == test, second.predictions == test
    details: dict[str, Detail] = {
        "accuracy_features": first.test_accuracy,
        "accuracy_other": second.test_accuracy,
        "chance": first.chance,
        "majority": first.majority,
        "converged": first.converged and second.converged,
        "interval": "Newcombe, paired",
        "n_images": n_images,
    }
    gap = Estimate(
        float(right.mean() - right_other.mean()),
        paired_interval(right, right_other, n_images),
        details,
    )
    return TransformationProbe(first, second, gap)


def paired_interval(
    right: Bool[np.ndarray, " m"],
    right_other: Bool[np.ndarray, " m"],
    n: int | None = None,
) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two accuracies on the same rows.

    With p the two accuracies, l and u the ends of their Wilson intervals, and phi the
    correlation of the answers:

        lower = p1 - p2 - sqrt((p1-l1)^2 - 2 phi (p1-l1)(u2-p2) + (u2-p2)^2)
        upper = p1 - p2 + sqrt((u1-p1)^2 - 2 phi (u1-p1)(p2-l2) + (p2-l2)^2)

    Args:
        right: whether the first answered each row rightly.
        right_other: whether the second did.
        n: independent rows among them, such as images; all by default.

    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10. As in the
    source, with the continuity correction of phi.
    """
    rows = len(right)
    n = rows if n is None else n
    first, second = float(right.mean()), float(right_other.mean())
    low, high = wilson_interval(first * n, n)
    low_other, high_other = wilson_interval(second * n, n)
    both = float((right & right_other).mean()) * n
    neither = float((~right & ~right_other).mean()) * n
    one = float((right & ~right_other).mean()) * n
    only_other = float((~right & right_other).mean()) * n
    product = both * neither - one * only_other
    if product > 0:
        product = max(product - n / 2, 0.0)
    margins = first * (1 - first) * second * (1 - second)
    phi = product / (n**2 * margins**0.5) if margins > 0 else 0.0
    gap = first - second
    below = _combined(first - low, high_other - second, phi)
    above = _combined(high - first, second - low_other, phi)
    return max(gap - below, -1.0), min(gap + above, 1.0)


def _combined(one: float, other: float, phi: float) -> float:
    return max(one**2 - 2 * phi * one * other + other**2, 0.0) ** 0.5


def _test_images(object_ids: ObjectIds | None, is_test: Bool[np.ndarray, " n"]) -> int:
    """Return how many images test; raise where one has rows on both sides."""
    if object_ids is None:
        return int(is_test.sum())
    ids = checked_ids(object_ids, len(is_test))
    shared = np.intersect1d(ids[is_test], ids[~is_test])
    if len(shared):
        raise InputError(
            "is_test: images with rows on both sides of the split",
            found=f"{len(shared):,}, the first: {shared[0]}",
            expected="all rows of an image on one side",
            fix="split by image, not by row",
        )
    return len(np.unique(ids[is_test]))


def _finite_rows(features: Array, name: str) -> np.ndarray:
    rows = host(as_double(as_matrix(features, name)))
    if not np.isfinite(rows).all():
        raise InputError(f"{name}: some features are NaN or infinite")
    return rows
