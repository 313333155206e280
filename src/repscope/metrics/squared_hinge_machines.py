"""From rows and signs to support-vector machines with a bound that can be trusted.

The solver works along the axes of the centred features, in single precision where that
serves. What it finds is then measured on the features as given, in double precision.
"""

import math
from dataclasses import dataclass, fields

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Int

from repscope._arrays import Array, namespace
from repscope._numerics import BLOCK_BYTES
from repscope.metrics.gram import GramBasis
from repscope.metrics.squared_hinge_solver import (
    Points,
    Problems,
    Rows,
    cast,
    chosen,
    descend,
    first_points,
)

# A mean this near to the axes, relative to its length, lies along them.
RELATIVE_ROUNDING = 1e-12
# From this many values on, all but the last steps are taken in single precision, down
# to a gap that its rounding does not reach, where features are near 1 in size.
SINGLE_PRECISION_VALUES = 2**20
SINGLE_PRECISION_GAP = 1e-5
SINGLE_PRECISION_RANGE = 1e6
# Double precision, which decides, must find the gap closed too.
SINGLE_PRECISION_SHARE = 0.9
# Memory per row and problem that the solver takes, and the fewest problems that share
# a matrix product.
HELD_BYTES, LEAST_TOGETHER = 40, 16


@dataclass(frozen=True, eq=False)
class Space:
    """The rows as the solver sees them, along the axes of the centred features.

    A parameter for each axis, and one for the bias together with the part of the mean
    that no axis holds; the penalty stays |parameters|^2 / 2.

    Args:
        features: (n, d) as given.
        rows: (n, r + 1).
        axes: (d, r).
        beyond: (d,) the part of the mean that no axis holds.
        length: sqrt(1 + |beyond|^2).
    """

    features: Float[Array, "n d"]
    rows: Rows
    axes: Float[Array, "d r"]
    beyond: Float[Array, " d"]
    length: float

    @classmethod
    def of(cls, features: Float[Array, "n d"], basis: GramBasis | None) -> "Space":
        """Return the space of features, (n, d) in float64."""
        xp = namespace(features)
        mean = xp.zeros_like(features[0, :])
        if basis is None:
            mean = xp.mean(features, axis=0)
            basis = GramBasis.of(features - mean)
        along = mean @ basis.axes
        beyond = mean - basis.axes @ along
        if float(beyond @ beyond) <= RELATIVE_ROUNDING**2 * float(mean @ mean):
            beyond = xp.zeros_like(mean)
        length = math.sqrt(1 + float(beyond @ beyond))
        column = xp.full_like(features[:, :1], length)
        rows = Rows(
            values=xp.concat([basis.rotated + along, column], axis=1),
            spectrum=xp.concat([basis.values, 0 * column[0, :]]),
            direction=xp.concat([along, column[0, :]]),
        )
        return cls(features, rows, basis.axes, beyond, length)

    def machines(self, problems: Problems, points: Points) -> "Machines":
        """Return what the points amount to, measured on the features as given."""
        xp = namespace(self.features)
        bias = points.parameters[:, -1] / self.length
        weights = points.parameters[:, :-1] @ self.axes.T
        weights = weights + bias[:, None] * self.beyond
        margins = problems.signs * (weights @ self.features.T + bias[:, None])
        hinge = xp.maximum(1 - margins, xp.zeros_like(bias[:1]))
        penalty = xp.sum(weights**2, axis=1) + bias**2
        signed = problems.signs * points.weight
        twice = 2 * problems.C
        pull = twice[:, None] * (signed @ self.features)
        pulls = xp.sum(pull**2, axis=1) + (twice * xp.sum(signed, axis=1)) ** 2
        gain = points.weight - points.weight**2 / 2
        return Machines(
            weights=weights,
            bias=bias,
            objectives=penalty / 2 + problems.C * xp.sum(hinge**2, axis=1),
            bounds=xp.clip(twice * xp.sum(gain, axis=1) - pulls / 2, 0, None),
            iterations=points.iterations,
        )


@dataclass(frozen=True, eq=False)
class Machines:
    """Solved problems, one per row, and bounds of their minima from below."""

    weights: Float[Array, "k d"]
    bias: Float[Array, " k"]
    objectives: Float[Array, " k"]
    bounds: Float[Array, " k"]
    iterations: Int[Array, " k"]

    def is_open(self, tolerance: float) -> Bool[Array, " k"]:
        """Return which have not reached the tolerance."""
        reached = self.objectives - self.bounds <= tolerance * self.objectives
        return ~reached

    def part(self, places: slice) -> "Machines":
        """Return some of the machines."""
        return Machines(*(getattr(self, one.name)[places] for one in fields(self)))

    @classmethod
    def joined(cls, parts: list["Machines"]) -> "Machines":
        """Return the machines of all parts."""
        xp = namespace(parts[0].bias)
        names = [one.name for one in fields(cls)]
        return cls(*(xp.concat([getattr(p, name) for p in parts]) for name in names))


def solve(
    space: Space,
    is_own: Bool[np.ndarray, "k n"],
    C: Float[np.ndarray, " k"],
    *,
    tolerance: float,
    maximum_iterations: int,
) -> Machines:
    """Return the machine of each problem, as many at a time as memory allows.

    Args:
        space: of the rows.
        is_own: whether the row is of the problem's class.
        C: inverse strength of the penalty.
        tolerance: gap, relative to the objective, that ends a problem.
        maximum_iterations: that end it too.
    """
    most = max(LEAST_TOGETHER, BLOCK_BYTES // (HELD_BYTES * is_own.shape[1]))
    xp, device = namespace(space.features), array_api_compat.device(space.features)
    parts = []
    for start in range(0, len(C), most):
        signs = np.where(is_own[start : start + most], 1.0, -1.0)
        problems = Problems(
            xp.asarray(signs, device=device),
            xp.asarray(C[start : start + most], device=device),
        )
        parts.append(_solve(space, problems, tolerance, maximum_iterations))
    return Machines.joined(parts)


def _solve(
    space: Space, problems: Problems, tolerance: float, maximum: int
) -> Machines:
    """Come near in single precision; double precision decides, and goes on."""
    xp, rows = namespace(space.features), space.rows
    points = first_points(rows, problems)
    if _single_precision_serves(rows, problems):
        near = descend(
            cast(rows, xp.float32),
            cast(problems, xp.float32),
            cast(points, xp.float32),
            max(SINGLE_PRECISION_SHARE * tolerance, SINGLE_PRECISION_GAP),
            maximum,
        )
        points = cast(near, xp.float64)
    machines = space.machines(problems, points)
    is_open = machines.is_open(tolerance)
    if not bool(xp.any(is_open)):
        return machines
    again = descend(
        rows, chosen(problems, is_open), chosen(points, is_open), tolerance, maximum
    )
    for one in fields(points):
        getattr(points, one.name)[is_open] = getattr(again, one.name)
    return space.machines(problems, points)


def _single_precision_serves(rows: Rows, problems: Problems) -> bool:
    xp, values = namespace(rows.values), rows.values
    if values.shape[0] * values.shape[1] < SINGLE_PRECISION_VALUES:
        return False
    sizes = [xp.max(xp.abs(values)), xp.min(problems.C), xp.max(problems.C)]
    limit = SINGLE_PRECISION_RANGE
    return all(1 / limit < float(size) < limit for size in sizes)
