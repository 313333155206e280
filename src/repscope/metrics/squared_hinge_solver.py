"""The solver under the squared-hinge probe: many problems, one per row, at once.

Problem k is min |p|^2 / 2 + C_k sum_i max(0, 1 - y_ki (p . rows_i))^2 over p. All share
the rows, so that a step of all of them is two matrix products, and none moves another.
The bound on the distance from the optimum is a duality gap. Its dual point is mixed
from those of all iterations, which closes the gap sooner than the last one's.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import array_api_compat
from jaxtyping import Bool, Float, Int

from repscope._arrays import Array, namespace

# Pairs of steps and gradient differences that the quasi-Newton method remembers.
MEMORY = 5
# A step is accepted where the slope along it has fallen to this share.
SLOPE_SHARE = 0.5
LINE_SEARCH_TRIALS = 30
# Least share of rows that is assumed to lie within the margin.
LEAST_ACTIVE_SHARE = 1e-3

# What a descent holds of each problem.
OF_EACH = (
    *("signs", "C", "places", "is_stuck", "parameters", "slack"),
    *("hinge", "gradient", "loss", "objective", "gap"),
)
Record = TypeVar("Record", "Rows", "Problems", "Points")


@dataclass(frozen=True, eq=False)
class Rows:
    """What all problems share.

    Args:
        values: (n, p).
        spectrum: (p,) such that values^T values is near to diag(spectrum) +
            n direction direction^T: this shapes the steps, and not the optimum.
        direction: (p,).
    """

    values: Float[Array, "n p"]
    spectrum: Float[Array, " p"]
    direction: Float[Array, " p"]


@dataclass(frozen=True, eq=False)
class Problems:
    """What to fit.

    Args:
        signs: (k, n) of +1 and -1.
        C: (k,) above 0.
    """

    signs: Float[Array, "k n"]
    C: Float[Array, " k"]


@dataclass(frozen=True, eq=False)
class Points:
    """A primal and a dual point of every problem.

    Args:
        parameters: (k, p).
        weight: (k, n), not negative; the dual's multipliers are 2 C weight.
        iterations: (k,) quasi-Newton steps so far.
    """

    parameters: Float[Array, "k p"]
    weight: Float[Array, "k n"]
    iterations: Int[Array, " k"]


def chosen(record: Record, kept: Bool[Array, " k"]) -> Record:
    """Return what a record holds of some problems."""
    return _changed(record, lambda array: array[kept])


def cast(record: Record, precision: Any) -> Record:
    """Return a record with its real numbers in another precision."""

    def one(array: Array) -> Array:
        xp = namespace(array)
        is_real = xp.isdtype(array.dtype, "real floating")
        return xp.astype(array, precision) if is_real else array

    return _changed(record, one)


def _changed(record: Record, change: Callable[[Array], Array]) -> Record:
    return type(record)(*(change(getattr(record, one.name)) for one in fields(record)))


def first_points(rows: Rows, problems: Problems) -> Points:
    """Return the optimum of the squared loss, where every row counts; nearly so."""
    xp = namespace(rows.values)
    pull = 2 * problems.C[:, None] * (problems.signs @ rows.values)
    shape = _Curvature(rows, problems.C, xp.ones_like(problems.C))
    device = array_api_compat.device(pull)
    steps = xp.zeros(pull.shape[0], dtype=xp.int64, device=device)
    return Points(shape.solve(pull), xp.zeros_like(problems.signs), steps)


def descend(
    rows: Rows, problems: Problems, start: Points, tolerance: float, maximum: int
) -> Points:
    """Return points whose gap, relative to the objective, is within the tolerance.

    Or those after the last iteration, or where rounding hides any further descent.
    """
    xp = namespace(rows.values)
    found = _changed(start, xp.zeros_like)
    state, steps = _Descent(rows, problems, start), 0
    while state.places.shape[0] > 0:
        so_far = start.iterations[state.places] + steps
        ended = state.gap <= tolerance * state.objective
        ended = ended | state.is_stuck | (so_far >= maximum)
        if bool(xp.any(ended)):
            places = state.places[ended]
            found.parameters[places] = state.parameters[ended]
            found.weight[places] = state.dual.weight[ended]
            found.iterations[places] = so_far[ended]
            state.keep(~ended)
        if not bool(xp.all(ended)):
            state.step(steps)
            steps += 1
    return found


class _Curvature:
    """The curvature that is assumed: I + 2 C share values^T values, and its inverse."""

    def __init__(
        self, rows: Rows, C: Float[Array, " k"], share: Float[Array, " k"]
    ) -> None:
        weight = 2 * C * share
        self.direction = rows.direction
        self.inverse = 1 / (1 + weight[:, None] * rows.spectrum)
        self.ray = self.inverse * rows.direction
        strength = weight * rows.values.shape[0]
        self.strength = strength / (1 + strength * (self.ray @ rows.direction))

    def solve(self, vectors: Float[Array, "k p"]) -> Float[Array, "k p"]:
        """Return the inverse times the vectors (Sherman, Morrison)."""
        flat = vectors * self.inverse
        return flat - (self.strength * (flat @ self.direction))[:, None] * self.ray

    def keep(self, kept: Bool[Array, " k"]) -> None:
        self.inverse, self.ray = self.inverse[kept], self.ray[kept]
        self.strength = self.strength[kept]


@dataclass(eq=False)
class _Dual:
    """The best dual point; its value is 2 C total - |pull|^2 / 2 - C square.

    Args:
        weight: (k, n).
        pull: (k, p), 2 C sum_i y_i weight_i rows_i.
        total: sum of the weights.
        square: sum of their squares.
    """

    weight: Float[Array, "k n"]
    pull: Float[Array, "k p"]
    total: Float[Array, " k"]
    square: Float[Array, " k"]

    def value(self, C: Float[Array, " k"]) -> Float[Array, " k"]:
        return 2 * C * self.total - _dot(self.pull, self.pull) / 2 - C * self.square

    def mix(self, other: "_Dual", C: Float[Array, " k"]) -> None:
        """Move to the best point on the way to another one."""
        xp = namespace(C)
        cross, way = _dot(self.weight, other.weight), other.pull - self.pull
        slope = 2 * C * (other.total - self.total - cross + self.square)
        slope = slope - _dot(self.pull, way)
        distance = self.square - 2 * cross + other.square
        curvature = _dot(way, way) + 2 * C * distance
        flat = curvature <= 0
        share = xp.where(flat, 0 * C, slope / xp.where(flat, 0 * C + 1, curvature))
        share = xp.clip(share, 0, 1)
        self.weight *= (1 - share)[:, None]
        self.weight += share[:, None] * other.weight
        self.pull = self.pull + share[:, None] * way
        self.total = self.total + share * (other.total - self.total)
        self.square = (
            self.square + 2 * share * (cross - self.square) + share**2 * distance
        )

    def keep(self, kept: Bool[Array, " k"]) -> None:
        self.weight, self.pull = self.weight[kept], self.pull[kept]
        self.total, self.square = self.total[kept], self.square[kept]


def _dot(a: Float[Array, "k m"], b: Float[Array, "k m"]) -> Float[Array, " k"]:
    result: Float[Array, " k"] = namespace(a, b).vecdot(a, b, axis=-1)
    return result


class _Descent:
    """Quasi-Newton steps (L-BFGS) on every problem that has not ended."""

    def __init__(self, rows: Rows, problems: Problems, start: Points) -> None:
        xp = self.xp = namespace(rows.values)
        self.rows, self.signs, self.C = rows, problems.signs, problems.C
        self.zero = xp.zeros_like(problems.C[:1])
        device = array_api_compat.device(self.C)
        self.places = xp.arange(self.C.shape[0], device=device)
        self.is_stuck = self.C < 0
        self.parameters = start.parameters
        self.slack = 1 - self._margins(start.parameters)
        self.pairs: list[tuple[Array, Array, Array]] = []
        weight = xp.asarray(start.weight, copy=True)
        self.dual = self._dual_of(weight)
        self._complete()
        self._measure_curvature()

    def _margins(self, parameters: Float[Array, "k p"]) -> Float[Array, "k n"]:
        margins = parameters @ self.rows.values.T
        margins *= self.signs
        return margins

    def _dual_of(self, weight: Float[Array, "k n"]) -> _Dual:
        pull = 2 * self.C[:, None] * ((self.signs * weight) @ self.rows.values)
        return _Dual(weight, pull, self.xp.sum(weight, axis=-1), _dot(weight, weight))

    def _complete(self) -> None:
        """Set hinge, gradient, objective and gap from parameters and slack."""
        self.hinge = self.xp.maximum(self.slack, self.zero)
        here = self._dual_of(self.hinge)
        self.gradient = self.parameters - here.pull
        self.loss = self.C * here.square
        self.objective = self.loss + _dot(self.parameters, self.parameters) / 2
        self.dual.mix(here, self.C)
        self.gap = self.objective - self.dual.value(self.C)

    def _measure_curvature(self) -> None:
        xp = self.xp
        active = xp.astype(self.hinge > 0, self.C.dtype)
        share = xp.clip(xp.mean(active, axis=-1), LEAST_ACTIVE_SHARE, 1)
        self.curvature = _Curvature(self.rows, self.C, share)

    def keep(self, kept: Bool[Array, " k"]) -> None:
        """Drop the other problems."""
        for name in OF_EACH:
            setattr(self, name, getattr(self, name)[kept])
        self.dual.keep(kept)
        self.curvature.keep(kept)
        self.pairs = [(a[kept], b[kept], c[kept]) for a, b, c in self.pairs]

    def step(self, iteration: int) -> None:
        """Take one step; the curvature is measured again after 2, 4, 8, ... of them."""
        before = self.gradient
        direction = -self._newton_like(before)
        change = self._margins(direction)
        steps = self._step_lengths(direction, change)
        self.is_stuck = steps == 0
        move = steps[:, None] * direction
        self.parameters = self.parameters + move
        change *= steps[:, None]
        self.slack -= change
        self._complete()
        difference = self.gradient - before
        self.pairs.append((move, difference, _dot(move, difference)))
        self.pairs = self.pairs[-MEMORY:]
        if iteration >= 2 and iteration & (iteration - 1) == 0:
            self._measure_curvature()

    def _newton_like(self, gradient: Float[Array, "k p"]) -> Float[Array, "k p"]:
        """Return the L-BFGS product with the gradient (two loops)."""
        vector, weights = gradient, []
        for move, difference, product in reversed(self.pairs):
            weights.append(_dot(move, vector) / product)
            vector = vector - weights[-1][:, None] * difference
        vector = self.curvature.solve(vector)
        if self.pairs:
            _, difference, product = self.pairs[-1]
            scale = product / _dot(difference, self.curvature.solve(difference))
            vector = vector * scale[:, None]
        for (move, difference, product), weight in zip(
            self.pairs, reversed(weights), strict=True
        ):
            back = _dot(difference, vector) / product
            vector = vector + (weight - back)[:, None] * move
        return vector

    def _step_lengths(
        self, direction: Float[Array, "k p"], change: Float[Array, "k n"]
    ) -> Float[Array, " k"]:
        """Return how far each problem goes; 0 where none of the trials descends.

        Margins are linear in the step: trials cost no product.
        """
        xp, C = self.xp, self.C
        linear = _dot(self.parameters, direction)
        square = _dot(direction, direction)
        first = linear - 2 * C * _dot(self.hinge, change)
        bracket = _Brackets(first)
        steps, left = xp.zeros_like(C), xp.nonzero(first < 0)[0]
        for _ in range(LINE_SEARCH_TRIALS):
            if left.shape[0] == 0:
                break
            step, along, slack = bracket.step[left], change, self.slack
            if left.shape[0] < C.shape[0]:
                along, slack = change[left, :], slack[left, :]
            hinge = xp.maximum(slack - step[:, None] * along, self.zero)
            slope = (
                linear[left] + step * square[left] - 2 * C[left] * _dot(hinge, along)
            )
            rise = C[left] * _dot(hinge, hinge) - self.loss[left]
            rise = rise + step * linear[left] + step**2 * square[left] / 2
            good = (xp.abs(slope) <= -SLOPE_SHARE * first[left]) & (rise <= 0)
            steps[left[good]] = step[good]
            bracket.narrow(left, slope, rise)
            left = left[~good]
        return steps


class _Brackets:
    """The next step to try, from the slopes of convex functions at earlier ones."""

    def __init__(self, slope: Float[Array, " k"]) -> None:
        xp = namespace(slope)
        self.step = xp.ones_like(slope)
        self.low, self.low_slope = xp.zeros_like(slope), slope
        self.high = xp.full_like(slope, float("inf"))
        self.high_slope = xp.zeros_like(slope)

    def narrow(
        self,
        at: Int[Array, " m"],
        slope: Float[Array, " m"],
        rise: Float[Array, " m"],
    ) -> None:
        """Take in the slopes at `step`, and by how much each function lies above 0."""
        xp = namespace(slope)
        step, low, low_slope = self.step[at], self.low[at], self.low_slope[at]
        over = (slope > 0) | (rise > 0)
        high = xp.where(over, step, self.high[at])
        high_slope = xp.where(over, xp.clip(slope, 0, None), self.high_slope[at])
        beyond = low_slope / (low_slope - xp.where(over, high_slope, slope))
        outwards = low + (step - low) * xp.clip(beyond, 1.5, 5)
        low = xp.where(over, low, step)
        low_slope = xp.where(over, low_slope, slope)
        share = low_slope / xp.where(high_slope > low_slope, low_slope - high_slope, -1)
        share = xp.clip(share, 0.1, 0.9)
        inwards = low + (xp.where(xp.isinf(high), low, high) - low) * share
        self.step[at] = xp.where(xp.isinf(high), outwards, inwards)
        self.low[at], self.low_slope[at] = low, low_slope
        self.high[at], self.high_slope[at] = high, high_slope
