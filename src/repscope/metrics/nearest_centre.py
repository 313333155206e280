"""How well do class centres alone read labels? Without training, without a scale.

Rows come at once or in blocks: with the centres of the training rows known, a second
pass over a file needs no more than one block in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, is_on_device, namespace
from repscope._checking import InputError, Undecidable, check_choice, check_length
from repscope._numerics import class_sums, row_blocks, unit_rows
from repscope.metrics.class_centres import nearest_class_centre, power_of_two
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.probing import LEAST_SCORE, Answers, ProbeResult, result_of
from repscope.representations.class_moments import ClassMoments

# Rows are cut at this many times the spread of the centres, far from overflow.
FARTHEST = 1e200

Distance = Literal["euclidean", "cosine"]


@metric(
    title="nearest-class-centre accuracy",
    formula="share of test rows whose nearest training class mean (Euclidean) is "
    "their own",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n c d)",
    source="Ben-Shaul et al. 2023, Section 3",
    misleads="asks for round classes of equal width; features on different scales "
    "weigh as they are",
)
def ncc_accuracy(result: ProbeResult) -> Estimate:
    """Return the test accuracy of the nearest-class-centre classifier.

    Args:
        result: of `nearest_centre_probe`.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson. Details: `skill`, `chance`,
        `majority` and the like.

    Source: Ben-Shaul et al. 2023, Section 3 (training centres for test rows too). As in
    the source.
    """
    return result.estimate


def nearest_centre_probe(
    train: Shaped[Array, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Shaped[Array, "m d"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    metric: Distance = "euclidean",
) -> ProbeResult:
    """Return what nearest class centres read from features.

    Ties go to the smallest class code; classes without training rows are never the
    answer. Training rows are compared with the centres of the training rows too.

    Args:
        train: (n, d) features, not standardised; NumPy or torch, on any device.
        train_labels: (n,) class codes.
        test: (m, d) features.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        metric: "euclidean" compares |row - centre|, "cosine" the angle between them.

    Returns:
        With margins in squared units of the features, or cosines.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only; for
            cosines, where fewer than two class centres differ from 0.
        UsageError: for another metric.
    """
    check_choice("metric", metric, get_args(Distance))

    def answers() -> Answers:
        means = _class_means(train, train_labels, n_classes)
        seen = np.bincount(train_labels, minlength=n_classes) > 0
        centres = Centres.of(means, seen, metric=metric)
        trained = centres.classify(train) == train_labels
        return Answers(
            predictions=centres.classify(test),
            margins=centres.margins(test, test_labels),
            train_accuracy=float(trained.mean()),
        )

    return result_of(answers, train_labels, test_labels, n_classes)


def nearest_centre_of_blocks(
    blocks: Iterable[tuple[int, Shaped[Array, "_ d"]]],
    labels: Int[np.ndarray, " n"],
    is_test: Bool[np.ndarray, " n"],
    moments: ClassMoments,
    *,
    metric: Distance = "euclidean",
) -> ProbeResult:
    """Return `nearest_centre_probe` of rows that come in blocks: the second pass.

    Args:
        blocks: (first row, features) of all rows, in any order.
        labels: (n,) class codes.
        is_test: (n,) whether a row is tested; the others trained the centres.
        moments: of the training rows, from the first pass.
        metric: "euclidean" or "cosine".

    Raises:
        Undecidable: as `nearest_centre_probe`.
        InputError: where the blocks do not hold each row once.
    """
    check_choice("metric", metric, get_args(Distance))

    check_length("is_test", len(is_test), len(labels), "labels")

    def answers() -> Answers:
        centres = Centres.of(moments.means, moments.counts > 0, metric=metric)
        found, margins = [], []
        for start, rows in blocks:
            own = labels[start : start + rows.shape[0]]
            found.append((start, centres.classify(rows)))
            margins.append((start, centres.margins(rows, own)))
        predictions = _in_order(found, len(labels))
        trained = predictions[~is_test] == labels[~is_test]
        return Answers(
            predictions=predictions[is_test],
            margins=_in_order(margins, len(labels))[is_test],
            train_accuracy=float(trained.mean()),
        )

    return result_of(answers, labels[~is_test], labels[is_test], len(moments.counts))


def classify_blocks(
    blocks: Iterable[tuple[int, Shaped[Array, "_ d"]]],
    centres: Float[np.ndarray, "k d"],
    classes: Int[np.ndarray, " k"],
) -> Int[np.ndarray, " n"]:
    """Return the class of the nearest centre (Euclidean) of rows that come in blocks.

    The answers are those for all rows at once; ties go to the first centre.

    Args:
        blocks: (first row, features), in any order, each row once.
        centres: (k, d).
        classes: (k,) their class codes, ascending.

    Raises:
        InputError: where the blocks do not hold each row once.

    Example:
        >>> blocks = [(1, np.array([[9.0]])), (0, np.array([[1.0]]))]
        >>> classify_blocks(blocks, np.array([[0.0], [8.0]]), np.array([3, 5])).tolist()
        [3, 5]
    """
    found = [(first, nearest_class_centre(r, centres, classes)) for first, r in blocks]
    return _in_order(found, sum(len(part) for _, part in found))


def _in_order(
    parts: list[tuple[int, Shaped[np.ndarray, " _"]]], n: int
) -> Shaped[np.ndarray, " n"]:
    parts = sorted(parts, key=lambda part: part[0])
    ends = np.cumsum([len(part) for _, part in parts], dtype=np.int64).tolist()
    if [first for first, _ in parts] != [0, *ends][:-1] or ends[-1:] != [n]:
        raise InputError(
            "blocks: each row is needed once",
            found=", ".join(
                f"rows {first} to {first + len(part) - 1}" for first, part in parts
            )
            or "no block",
            expected=f"rows 0 to {n - 1}",
        )
    return np.concatenate([part for _, part in parts])


@dataclass(frozen=True, eq=False)
class Centres:
    """Class centres that rows are compared with.

    Args:
        classes: (k,) class codes of the centres, ascending.
        centres: (k, d); of length 1 for cosines.
        metric: "euclidean" or "cosine".
    """

    classes: Int[np.ndarray, " k"]
    centres: Float[np.ndarray, "k d"]
    metric: Distance

    @classmethod
    def of(
        cls,
        means: Float[np.ndarray, "c d"],
        seen: Bool[np.ndarray, " c"],
        *,
        metric: Distance,
    ) -> "Centres":
        """Return the centres of the classes that have rows, and a direction.

        Args:
            means: (c, d) class means.
            seen: (c,) whether a class has rows.
            metric: "euclidean" or "cosine".

        Raises:
            Undecidable: for cosines, where fewer than two class centres differ from 0.
        """
        if metric == "euclidean":
            return cls(np.flatnonzero(seen), means[seen], metric)
        classes = np.flatnonzero(seen & means.any(axis=1))
        if len(classes) < 2:
            raise Undecidable("fewer than two class centres have a direction")
        return cls(classes, unit_rows(means[classes]), metric)

    def _compared(self, features: Shaped[Array, "n d"]) -> Shaped[Array, "n d"]:
        rows = as_matrix(features)
        return unit_rows(rows) if self.metric == "cosine" else rows

    def classify(self, features: Shaped[Array, "n d"]) -> Int[np.ndarray, " n"]:
        """Return the class of the nearest centre; ties go to the smallest class.

        Args:
            features: (n, d) rows.
        """
        return nearest_class_centre(
            self._compared(features), self.centres, self.classes
        )

    def margins(
        self, features: Shaped[Array, "n d"], labels: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Return how much nearer the own centre is than the best other one.

        |row - other|^2 - |row - own|^2, or the difference of cosines; finite.

        Args:
            features: (n, d) rows.
            labels: (n,) their classes, which need not have centres.
        """
        rows = self._compared(features)
        margins = np.empty(len(labels))
        for block in row_blocks(len(labels), rows.shape[1] + len(self.centres)):
            near = self._closeness(as_double(rows[block, :]))
            own = labels[block, None] == self.classes
            margins[block] = np.max(
                near, axis=1, initial=LEAST_SCORE, where=own
            ) - np.max(near, axis=1, initial=LEAST_SCORE, where=~own)
        return margins

    def _closeness(self, rows: Float[Array, "n d"]) -> Float[np.ndarray, "n k"]:
        """Return -|row - centre|^2 less a number of each row, or the cosine alike."""
        xp, device = namespace(rows), array_api_compat.device(rows)
        shift = self.centres.mean(axis=0)
        relative = self.centres - shift
        unit = power_of_two(float(np.abs(relative).max()))
        # A row may lie beyond all bounds where the centres hardly differ.
        with np.errstate(over="ignore"):
            shifted = (rows - xp.asarray(shift, device=device)) / unit
            shifted = xp.clip(shifted, -FARTHEST, FARTHEST)
        relative /= unit
        products = host(shifted @ xp.asarray(relative.T, device=device))
        near = products - (relative**2).sum(axis=1) / 2
        # 1 - |u - v|^2 / 2 is the cosine of unit vectors.
        factor = 1.0 if self.metric == "cosine" else 2.0
        with np.errstate(over="ignore", under="ignore"):
            return np.clip(near * factor * unit * unit, LEAST_SCORE, -LEAST_SCORE)


def _class_means(
    features: Shaped[Array, "n d"], labels: Int[np.ndarray, " n"], n_classes: int
) -> Float[np.ndarray, "c d"]:
    """Return class means, 0 for a class without rows; less the first row before."""
    rows = as_matrix(features)
    xp, device = namespace(rows), array_api_compat.device(rows)
    first = as_double(rows[:1, :])
    sums = np.zeros((n_classes, rows.shape[1]))
    for block in row_blocks(len(labels), 2 * rows.shape[1]):
        shifted = as_double(rows[block, :]) - first
        if is_on_device(rows):
            own = labels[block] == np.arange(n_classes)[:, None]
            chosen = xp.asarray(own.astype(np.float64), device=device)
            sums += host(chosen @ shifted)
        else:
            sums += class_sums(host(shifted), labels[block], n_classes)
    counts = np.bincount(labels, minlength=n_classes)[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1) + host(first), 0.0)
