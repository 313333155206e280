"""What may a metric ask for? Everything, by name, from what a user has.

A metric's parameters are names of properties of these classes: `Ingredients` are what
features give by themselves, `LabelledIngredients` what one label level adds. Each is
derived when the first metric asks for it, and kept.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt64

from repscope._arrays import (
    Array,
    Scores,
    Spectrum,
    as_double,
    as_matrix,
    hash_rows,
    host,
    namespace,
)
from repscope._checking import NonFiniteFeatureError, Undecidable, check_length
from repscope.metrics import augmented, samples, sharing, sparsity
from repscope.metrics.gram import GramBasis
from repscope.metrics.probing import standardise
from repscope.representations.moments import Moments, Spectra
from repscope.representations.object_moments import ObjectMoments
from repscope.representations.representation import Representation
from repscope.representations.splitting import default_split
from repscope.representations.store import Store

# Beyond these magnitudes squares of sums of squares leave the range of float64.
LEAST_PEAK, GREATEST_PEAK = 2.0**-200, 2.0**200


class Missing(Undecidable):
    """What the user did not give; the reason says what is needed."""


@dataclass(frozen=True, eq=False)
class Division:
    """Rows divided into training and test rows, for probes.

    Args:
        features: (n, d) in float64.
        is_test: (n,) which rows test.
    """

    features: Float[np.ndarray, "n d"]
    is_test: Bool[np.ndarray, " n"]

    @cached_property
    def raw(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows as they are."""
        return self.features[~self.is_test], self.features[self.is_test]

    @cached_property
    def standardised(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows, standardised by the training rows."""
        return standardise(*self.raw)

    @cached_property
    def basis(self) -> GramBasis:
        """The eigenbasis that all linear probes share."""
        return GramBasis.of(self.standardised[0])

    @cached_property
    def joined(self) -> Float[np.ndarray, "n d"]:
        """All rows, standardised by the training rows."""
        rows = np.empty(self.features.shape)
        rows[~self.is_test], rows[self.is_test] = self.standardised
        return rows


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What features give by themselves, each named as metrics name it.

    Args:
        representation: the rows, finite, in units of `unit`.
        views_given: (n, q, d) features of q views of each image, in the same unit.
        other_given: (n, e) other features of the same rows, in a unit of their own.
        seed: of the default split and of everything drawn.
        unit: a power of two; 1 but for features too great or too small to square.
        given: what cannot be derived from features, by the parameter's name.
        n_dropped: rows left out because they are not finite.
    """

    representation: Representation
    views_given: Array | None = None
    other_given: Array | None = None
    seed: int = 0
    unit: float = 1.0
    given: Mapping[str, Any] = field(default_factory=dict)
    n_dropped: int = 0

    @classmethod
    def of(
        cls,
        representation: Representation,
        *,
        views: Array | None = None,
        other: Array | None = None,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
    ) -> "Ingredients":
        """Return the ingredients of features, extreme ones divided by a power of two.

        Args:
            representation: the rows.
            views: (n, q, d) features of q views of each image.
            other: (n, e) other features of the same rows.
            seed: of the default split and of everything drawn.
            given: what cannot be derived from features, by the parameter's name.

        Raises:
            InputError: where views or other features are of other rows.
            NonFiniteFeatureError: where a value is NaN or infinite.
        """
        peak = max(_peak(block, start) for start, block in representation.blocks())
        if views is not None:
            views = augmented.check_views(views, representation.n)
            peak = max(peak, float(namespace(views).max(abs(views))))
        if other is not None:
            other = as_matrix(other, "other")
            check_length("other", other.shape[0], representation.n)
            other = _divided(other, _unit(_peak(as_double(other), 0, "other")))
        unit = _unit(peak)
        if unit != 1:
            sources = (_divided(whole_rows(representation), unit),)
            representation = dataclasses.replace(
                representation, sources=sources, kept=None
            )
            views = None if views is None else views / unit
        return cls(representation, views, other, seed, unit, given or {})

    @property
    def n(self) -> int:
        """Rows."""
        return self.representation.n

    @property
    def d(self) -> int:
        """Feature dimensions."""
        return self.representation.d

    @property
    def ids(self) -> Shaped[np.ndarray, " n"]:
        """Which image each row is."""
        return self.representation.ids

    @cached_property
    def features(self) -> Shaped[Array, "n d"]:
        """All rows, of the type and on the device they were given."""
        return whole_rows(self.representation)

    @cached_property
    def doubled(self) -> Float[np.ndarray, "n d"]:
        """All rows as float64 on the host."""
        return host(as_double(self.features))

    @property
    def views(self) -> Float[Array, "n q d"]:
        """Features of several views of each image.

        Raises:
            Missing: where none were given.
        """
        if self.views_given is None:
            raise Missing("needs views")
        return self.views_given

    @property
    def other(self) -> Shaped[Array, "n e"]:
        """Other features of the same rows.

        Raises:
            Missing: where none were given.
        """
        if self.other_given is None:
            raise Missing("needs other features of the same rows")
        return self.other_given

    @cached_property
    def objects(self) -> ObjectMoments:
        """Mean and scatter of the views of each image.

        Raises:
            Missing: where no views were given.
        """
        return ObjectMoments.of_views(self.views)

    @cached_property
    def total(self) -> Moments:
        """Count, mean and scatter of all rows."""
        moments = Moments(self.d)
        for _, block in self.representation.blocks():
            moments.update(block)
        return moments

    @cached_property
    def spectra(self) -> Spectra:
        """Both spectra, from one decomposition."""
        return self.total.spectra()

    @property
    def eigenvalues(self) -> Spectrum:
        """Of the centred covariance, descending."""
        return self.spectra.eigenvalues

    @property
    def singular_values(self) -> Spectrum:
        """Of the uncentred features, descending; min(n, d) of them."""
        return self.spectra.singular_values[: self.n]

    @cached_property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Of the centred features, ddof 0."""
        return self.total.covariance()

    @property
    def total_variance(self) -> float:
        """The trace of the covariance."""
        return float(np.trace(self.total.scatter)) / self.n

    @property
    def means(self) -> Float[np.ndarray, " d"]:
        """Of each feature."""
        return self.total.mean

    @property
    def squared_mean(self) -> float:
        """The squared length of the mean row."""
        return float(self.means @ self.means)

    @cached_property
    def deviations(self) -> Float[np.ndarray, " d"]:
        """Standard deviation of each feature, ddof 0."""
        return np.sqrt(np.maximum(np.diag(self.total.scatter), 0) / self.n)

    @cached_property
    def row_scores(self) -> Mapping[str, Scores]:
        """Every score of each row but soft sparsity, by name.

        Raises:
            Undecidable: with one feature per row.
        """
        if self.d < 2:
            raise Undecidable("one feature per row: it has none to stand out from")
        scored = samples.sample_scores(self.features)
        return {name: host(score) for name, score in scored.items()}

    @cached_property
    def scores(self) -> Float[np.ndarray, " n"]:
        """The normalised Q-Score of each row, by which low ones are found."""
        return self.row_scores["q_score_normalized"]

    @property
    def eta(self) -> float:
        """The size under which a feature counts as inactive."""
        return sparsity.default_eta(self.row_scores["maximum"])

    @cached_property
    def comparable(self) -> Float[np.ndarray, "n d"]:
        """Features, standardised where they take both signs."""
        total = float(self.means.sum()) * self.n
        magnitude = float(self.row_scores["l1_norm"].sum())
        if not sharing.takes_both_signs(magnitude, total):
            return self.doubled
        safe = np.where(self.deviations > 0, self.deviations, 1.0)
        return (self.doubled - self.means) / safe

    @cached_property
    def counts(self) -> Float[np.ndarray, " d"]:
        """In how many rows each feature is the greatest."""
        return host(sharing.argmax_shares(self.comparable))

    @cached_property
    def column_l1(self) -> Float[np.ndarray, " d"]:
        """The mean size of each feature."""
        return np.abs(self.comparable).mean(axis=0)

    @cached_property
    def row_hashes(self) -> UInt64[np.ndarray, " n"]:
        """Equal for equal rows."""
        return hash_rows(self.doubled)

    @property
    def has_split(self) -> bool:
        """Whether rows can be divided into training and test rows."""
        rows = self.representation
        known = rows.levels or rows.attributes
        return rows.is_test is not None or bool(known)

    @cached_property
    def division(self) -> Division:
        """Training and test rows, as given or by the hash of their ids.

        Raises:
            Missing: without a split and without labels.
        """
        rows = self.representation
        if not self.has_split:
            raise Missing("needs labels or a split")
        if rows.is_test is not None:
            return Division(self.doubled, rows.is_test)
        codes = (*rows.levels, *rows.attributes)[0].codes
        hashes = self.row_hashes
        is_test = default_split(rows.ids, codes, hashes, seed=self.seed)
        return Division(self.doubled, is_test)

    @property
    def is_test(self) -> Bool[np.ndarray, " n"]:
        """Which rows test.

        Raises:
            Missing: without a split and without labels.
        """
        return self.division.is_test

    @property
    def n_kept(self) -> int:
        """Rows left."""
        return self.n


def whole_rows(representation: Representation) -> Shaped[Array, "n d"]:
    """Return all rows as one array, an array in memory as it is."""
    sources = representation.sources
    is_array = len(sources) == 1 and not isinstance(sources[0], Store)
    if is_array and representation.kept is None:
        return sources[0]
    return representation.take(np.arange(representation.n))


def _peak(block: Array, start: int, name: str = "features") -> float:
    """Return the greatest magnitude of a block that begins at row `start`."""
    doubled = as_double(block)
    xp = namespace(doubled)
    per_row = xp.max(xp.abs(doubled), axis=1)
    finite = host(xp.isfinite(per_row))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise NonFiniteFeatureError(name, len(bad), start + int(bad[0]))
    return float(xp.max(per_row))


def _unit(peak: float) -> float:
    if peak == 0 or LEAST_PEAK <= peak <= GREATEST_PEAK:
        return 1.0
    return 2.0 ** math.floor(math.log2(peak))


def _divided(features: Array, unit: float) -> Array:
    return features if unit == 1 else as_double(features) / unit
