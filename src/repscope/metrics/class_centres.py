"""Where the classes of some rows lie, how far apart, and which centre is nearest.

Centres are taken relative to the first one and in a unit near their own size, a power
of two, so that neither a large common mean nor an extreme scale costs a digit.
"""

import math
from dataclasses import dataclass, replace

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, is_on_device, namespace
from repscope._checking import Undecidable
from repscope._numerics import BLOCK_BYTES, row_blocks, squared_distances
from repscope.representations.class_moments import ClassMoments

# Sums of a million rows in another order differ by less than this share of their size.
CENTRE_ROUNDING = 1e-12
# A squared distance below this share of its two terms is taken again by subtraction.
UNRESOLVED_SHARE = 1e-6
# Values of a block of rows on the CPU: 8 MiB, which stays near the processor.
NEAR_VALUES = 2**20
# Two centres within this share of their terms are compared by subtraction.
TIE_SHARE = 1e-10
# Rows are divided by no less, so that sizes up to 1e19 stay finite.
LEAST_UNIT = 2.0**-960
# A factor for rows so far away that their squares overflow.
FAR = 2.0**-540
# Squares of greater numbers may leave the range of float64 when they are summed.
GREATEST_SQUARED = 2.0**400


@dataclass(frozen=True, eq=False)
class ClassCentres:
    """The classes that have rows.

    Args:
        classes: (k,) their codes, ascending.
        counts: (k,) rows.
        centres: (k, d) less the first centre, in units of `unit`.
        variances: (k,) E |f - centre|^2, in units of `unit` squared.
        roundings: (k,) squared length below which a difference from this centre is
            rounding, in units of `unit` squared.
        unit: a power of two.
    """

    classes: Int[np.ndarray, " k"]
    counts: Float[np.ndarray, " k"]
    centres: Float[np.ndarray, "k d"]
    variances: Float[np.ndarray, " k"]
    roundings: Float[np.ndarray, " k"]
    unit: float

    @classmethod
    def of(cls, moments: ClassMoments) -> "ClassCentres":
        """Return the centres of the classes that have rows.

        Raises:
            Undecidable: with fewer than two such classes, or where squares of the
                features exceed the range of float64.
        """
        classes = np.flatnonzero(moments.counts > 0)
        if len(classes) < 2:
            raise Undecidable("fewer than two classes have samples")
        means = moments.means[classes]
        variances = moments.variances[classes]
        if not (np.isfinite(means).all() and np.isfinite(variances).all()):
            raise Undecidable("squares of the features exceed the range of float64")
        centres = means - means[0]
        unit = power_of_two(
            max(float(np.abs(centres).max()), math.sqrt(float(variances.max())))
        )
        variances = variances / unit / unit
        # Cut where centres differ by rounding alone in any case.
        with np.errstate(over="ignore"):
            sizes = np.minimum(np.abs(means / unit), GREATEST_SQUARED)
        lengths = (sizes**2).sum(axis=1)
        return cls(
            classes=classes,
            counts=np.asarray(moments.counts[classes], dtype=np.float64),
            centres=centres / unit,
            variances=variances,
            roundings=CENTRE_ROUNDING**2 * (lengths + variances),
            unit=unit,
        )

    def of_several_rows(self) -> "ClassCentres":
        """Return the classes of two rows at least; one row tells no variance.

        Raises:
            Undecidable: where fewer than two classes have two rows.
        """
        several = self.counts > 1
        if several.sum() < 2:
            at_least = (
                "fewer than two classes have" if several.any() else "no class has"
            )
            raise Undecidable(f"{at_least} two rows: variances within are unknown")
        return (
            self
            if several.all()
            else replace(
                self,
                classes=self.classes[several],
                counts=self.counts[several],
                centres=self.centres[several],
                variances=self.variances[several],
                roundings=self.roundings[several],
            )
        )

    def squared_distances(self) -> Float[np.ndarray, "k k"]:
        """Return squared distances of centres, in units of `unit` squared.

        Centres that differ by rounding only, such as those of the same rows in another
        order, have a distance of 0.
        """
        distances = squared_distances(self.centres, self.centres)
        # Pairs that the expansion cannot resolve are taken again by subtraction.
        spread = ((self.centres - self.centres.mean(axis=0)) ** 2).sum(axis=1)
        terms = spread[:, None] + spread[None, :]
        close = np.triu(distances < UNRESOLVED_SHARE * terms, 1)
        first, second = np.nonzero(close)
        for block in row_blocks(len(first), 2 * self.centres.shape[1]):
            i, j = first[block], second[block]
            direct = ((self.centres[i] - self.centres[j]) ** 2).sum(axis=1)
            distances[i, j] = distances[j, i] = direct
        np.fill_diagonal(distances, 0)
        rounding = self.roundings[:, None] + self.roundings[None, :]
        return np.where(distances > rounding, distances, 0)


def power_of_two(size: float) -> float:
    """Return the greatest power of two that is at most `size`; 1 for 0.

    Example:
        >>> power_of_two(5.0), power_of_two(0.0)
        (4.0, 1.0)
    """
    return math.ldexp(1.0, math.frexp(size)[1] - 1) if size > 0 else 1.0


def in_squared_units(value: float, unit: float) -> float:
    """Return value * unit^2.

    Raises:
        Undecidable: where that exceeds the range of float64.
    """
    squared = float(value) * unit * unit
    if not math.isfinite(squared):
        raise Undecidable("squares of the features exceed the range of float64")
    return squared


def nearest_class_centre(
    features: Shaped[Array, "n d"],
    centres: Float[np.ndarray, "c d"],
    classes: Int[np.ndarray, " c"],
) -> Int[np.ndarray, " n"]:
    """Return the class of the nearest centre of each row; ties go to the first centre.

    argmin_c |f - mu_c|^2, from |mu_c|^2 - 2 f mu_c with both less the mean centre; rows
    to which two centres are equally near but for rounding are compared by subtraction.
    A longer file is classified block by block.

    Args:
        features: rows to classify; any real dtype, NumPy or torch.
        centres: one per class, of the rows fitted.
        classes: the class code of each centre, ascending.

    Source: Ben-Shaul et al. 2023, Section 3. As in the source.
    """
    matrix = as_matrix(features)
    n, d = matrix.shape
    shift = centres.mean(axis=0)
    relative = centres - shift
    unit = power_of_two(float(np.abs(relative).max()))
    if GREATEST_SQUARED > unit > 1 / GREATEST_SQUARED:
        unit = 1.0  # squares are safe as they are
    unit = max(unit, LEAST_UNIT)
    relative /= unit
    origin = _beside(shift, matrix)
    values = BLOCK_BYTES // 8 if is_on_device(matrix) else NEAR_VALUES
    step = max(1, values // (d + len(centres)))
    nearest = np.empty(n, dtype=np.int64)
    for start in range(0, n, step):
        rows = as_double(matrix[start : start + step, :]) - origin
        if unit != 1:
            rows /= unit
        nearest[start : start + step] = _nearest(rows, relative)
    return classes[nearest]


def _beside(values: Float[np.ndarray, "..."], array: Array) -> Array:
    """Return values as float64 where the array lives."""
    xp = namespace(array)
    device = array_api_compat.device(array)
    return xp.asarray(values, dtype=xp.float64, device=device)


def _nearest(
    rows: Float[Array, "n d"], centres: Float[np.ndarray, "c d"]
) -> Int[np.ndarray, " n"]:
    xp = namespace(rows)
    with np.errstate(over="ignore"):
        squared = xp.vecdot(rows, rows)
    if not bool(xp.all(xp.isfinite(squared))):  # some lie 1e154 beyond the centres
        rows, centres = rows * FAR, centres * FAR
        squared = xp.vecdot(rows, rows)
    lengths = (centres**2).sum(axis=1)
    scores = rows @ _beside(-2 * centres.T, rows)
    scores += _beside(lengths, rows)
    nearest = np.array(host(xp.argmin(scores, axis=1)))
    # The terms of a score are at most |mu|^2 + 2 |f| |mu| in size.
    longest = float(np.sqrt(lengths.max()))
    sizes = xp.sqrt(squared) * (2 * longest) + longest**2
    margin = (xp.min(scores, axis=1) + TIE_SHARE * sizes)[:, None]
    near = xp.sum(xp.astype(scores <= margin, xp.int64), axis=1)
    for row in np.flatnonzero(host(near) > 1):
        apart = host(rows[int(row), :]) - centres
        nearest[row] = int((apart**2).sum(axis=1).argmin())
    return nearest
