"""What may a metric ask for once there are labels? Classes, splits and probes.

One `LabelledIngredients` for each label level; the probes of a level are fitted once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from repscope._arrays import as_double, host
from repscope._checking import Undecidable
from repscope.data.levels import parents_of
from repscope.metrics.ingredients import Division, Ingredients, Missing
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.nearest_centre import nearest_centre_probe
from repscope.metrics.neighbours import knn_probe
from repscope.metrics.probing import ProbeResult
from repscope.metrics.profiles import ClassProfiles, class_profiles
from repscope.metrics.ridge import ridge_classify, ridge_probe
from repscope.metrics.squared_hinge import squared_hinge_probe
from repscope.representations.class_moments import ClassMoments
from repscope.representations.representation import Level


@dataclass(frozen=True, eq=False)
class LabelledIngredients:
    """What one label level or attribute adds to the features.

    Args:
        base: what the features give.
        level: the labels.
        above: the next coarser level; None for the coarsest.
    """

    base: Ingredients
    level: Level
    above: Level | None = None

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Class codes from 0 to c - 1."""
        return self.level.codes

    @property
    def n_classes(self) -> int:
        """Classes c."""
        return self.level.n_classes

    @cached_property
    def moments(self) -> ClassMoments:
        """Per class: count, mean and scatter."""
        moments = ClassMoments(self.n_classes, self.base.d)
        for start, block in self.base.representation.blocks():
            rows = host(as_double(block))
            moments.update(rows, self.labels[start : start + len(rows)])
        return moments

    @property
    def fine(self) -> ClassMoments:
        """Per subclass: count, mean and scatter."""
        return self.moments

    @property
    def parents(self) -> Int[np.ndarray, " c"]:
        """The class of each subclass.

        Raises:
            Missing: where there is no coarser level.
        """
        return parents_of(self.level, self._coarser())

    @property
    def coarse(self) -> Int[np.ndarray, " n"]:
        """The coarser class of each row.

        Raises:
            Missing: where there is no coarser level.
        """
        return self._coarser().codes

    def _coarser(self) -> Level:
        if self.above is None:
            raise Missing("needs a coarser label level")
        return self.above

    @cached_property
    def linear(self) -> ProbeResult:
        """What the logistic probe answers."""
        return self._linear(self.base.division, self._label_pair)

    @cached_property
    def view_predictions(self) -> Int[np.ndarray, "m q"]:
        """What the logistic probe answers on the views of each test row."""
        views = host(as_double(self.base.views))[self.base.is_test]
        if views.shape[2] != self.base.d:
            raise Undecidable(
                f"the views have {views.shape[2]} features, the rows {self.base.d}"
            )
        train, _ = self.base.division.raw
        rows = np.concatenate([train, views.reshape(-1, self.base.d)])
        is_view = np.arange(len(rows)) >= len(train)
        train_labels, test_labels = self._label_pair
        of_views = np.repeat(test_labels, views.shape[1])
        result = self._linear(Division(rows, is_view), (train_labels, of_views))
        return result.predictions.reshape(views.shape[:2])

    @cached_property
    def squared_hinge(self) -> ProbeResult:
        """What the squared-hinge probe answers."""
        return self._probe(
            squared_hinge_probe,
            self.base.division.standardised,
            basis=self.base.division.basis,
        )

    @cached_property
    def linear_of_other(self) -> ProbeResult:
        """What the logistic probe answers on the other features."""
        other = host(as_double(self.base.other))
        return self._linear(Division(other, self.base.is_test), self._label_pair)

    def _linear(
        self, division: Division, labels: tuple[np.ndarray, np.ndarray]
    ) -> ProbeResult:
        train, test = division.standardised
        train_labels, test_labels = labels
        basis = division.basis if len(train) else None
        return logistic_probe(
            train, train_labels, test, test_labels, self.n_classes, basis=basis
        )

    @cached_property
    def ridge(self) -> ProbeResult:
        """What the ridge probe answers."""
        return self._probe(ridge_probe, self.base.division.standardised)

    @cached_property
    def neighbours(self) -> ProbeResult:
        """What the nearest training rows answer."""
        hashes = self.base.row_hashes
        pair = hashes[~self.base.is_test], hashes[self.base.is_test]
        return self._probe(knn_probe, self.base.division.raw, hashes=pair)

    @cached_property
    def nearest_centre(self) -> ProbeResult:
        """What the nearest class centres answer."""
        return self._probe(nearest_centre_probe, self.base.division.raw)

    @property
    def _label_pair(self) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
        return self.labels[~self.base.is_test], self.labels[self.base.is_test]

    def _probe(
        self, probe: Callable[..., ProbeResult], rows: tuple, **options: Any
    ) -> ProbeResult:
        (train, test), (train_labels, test_labels) = rows, self._label_pair
        return probe(train, train_labels, test, test_labels, self.n_classes, **options)

    @property
    def right(self) -> Bool[np.ndarray, " m"]:
        """Whether the logistic probe is right on each test row."""
        return self._is_right(self.linear)

    @property
    def ncc_right(self) -> Bool[np.ndarray, " m"]:
        """Whether the nearest training class centre is that of each test row."""
        return self._is_right(self.nearest_centre)

    @property
    def right_of_other(self) -> Bool[np.ndarray, " m"]:
        """Whether the logistic probe on the other features is right."""
        return self._is_right(self.linear_of_other)

    def _is_right(self, result: ProbeResult) -> Bool[np.ndarray, " m"]:
        return result.predictions == self._label_pair[1]

    @property
    def scores(self) -> Float[np.ndarray, " m"]:
        """The Q-Score of each test row."""
        return self.base.row_scores["q_score"][self.base.is_test]

    @cached_property
    def profiles(self) -> ClassProfiles:
        """Mean test rows of each class, of right and of wrong answers."""
        _, rows = self.base.division.raw
        labels = self._label_pair[1]
        return class_profiles(rows, labels, self.right, self.n_classes)

    @property
    def majority(self) -> float:
        """Accuracy of the most frequent training class."""
        return self.linear.majority

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the classes that have rows."""
        return 1 / len(np.unique(self.labels))


# What stands for a parameter of one metric under another name: (metric, parameter).
PARTICULAR: Mapping[tuple[str, str], Callable[[LabelledIngredients], Any]] = {
    ("linear_accuracy", "result"): lambda given: given.linear,
    ("squared_hinge_accuracy", "result"): lambda given: given.squared_hinge,
    ("ridge_accuracy", "result"): lambda given: given.ridge,
    ("knn_accuracy", "result"): lambda given: given.neighbours,
    ("ncc_accuracy", "result"): lambda given: given.nearest_centre,
    ("nc4_agreement", "predictions"): lambda given: given.linear.predictions,
    ("nc4_agreement", "nearest"): lambda given: given.nearest_centre.predictions,
    ("label_consistency", "predictions"): lambda given: given.linear.predictions,
    ("ncc_linear_ratio", "linear_right"): lambda given: given.right,
    ("suppression_index", "correct"): lambda given: given.right,
    ("suppression_index", "reference_correct"): lambda given: given.right_of_other,
    ("subclass_given_class", "features"): lambda given: given.base.division.joined,
    ("subclass_given_class", "fine"): lambda given: given.labels,
    ("subclass_given_class", "classify"): lambda given: ridge_classify,
}


@dataclass(frozen=True, eq=False)
class Supply:
    """All ingredients of one data set.

    Args:
        base: what the features give.
        levels: what each label level adds, fine to coarse.
        attributes: what each attribute adds.
    """

    base: Ingredients
    levels: tuple[LabelledIngredients, ...]
    attributes: tuple[LabelledIngredients, ...]

    @classmethod
    def of(cls, base: Ingredients) -> "Supply":
        """Return the ingredients of features and of their labels."""
        rows = base.representation
        above = (*rows.levels[1:], None)
        levels = zip(rows.levels, above, strict=False)
        return cls(
            base,
            tuple(LabelledIngredients(base, one, coarse) for one, coarse in levels),
            tuple(LabelledIngredients(base, one) for one in rows.attributes),
        )
