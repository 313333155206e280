"""How are many softmax regressions on the same rows minimised at once?

A quasi-Newton method in the eigenbasis of the features, where a diagonal per class
follows the curvature of the softmax: correlated features, such as pixels, then cost few
more iterations than independent ones. The problems share the two products of each
step; direction, step and end are each problem's own.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import array_api_compat
import numpy as np
from jaxtyping import Float, Int

from repscope._arrays import Array, host, namespace
from repscope.metrics.gram import GramBasis

# Curvature p (1 - p) that is assumed of each class at first, where a small one takes
# steps that are too long on separable classes, and the least that is assumed later.
FIRST_CURVATURE, LEAST_CURVATURE = 0.1, 5e-4
# The curvature is measured again after 10, 20, 40, ... iterations.
FIRST_REFRESH = 10
# Pairs of steps and gradient differences that the quasi-Newton method remembers.
MEMORY = 10
# A step is accepted where the slope along it has fallen to this share.
SLOPE_SHARE = 0.5
LINE_SEARCH_TRIALS = 20
# The bias is settled to this share of the tolerance, in this many steps at most.
SETTLED_SHARE, SETTLING_STEPS = 1e-3, 8
# From this many values on, all is taken in single precision until the last steps, down
# to a gap that its rounding does not reach, where no square can leave its range.
SINGLE_PRECISION_VALUES = 2**20
SINGLE_PRECISION_GAP = 1e-5
ROUGH_SHARE = 0.95  # of the tolerance: double precision should find no more to do
SINGLE_PRECISION_RANGE = 1e7
# With fewer axes than this share of the features, rows are kept along the axes; else a
# rotation of all rows would cost more than those of the parameters in each step.
ROTATED_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class SoftmaxProblem:
    """Minimise sum CE + |W|^2 / (2 C); the bias is not penalised.

    Args:
        codes: (n,) from 0 to c - 1; every class has rows.
        C: inverse strength of the penalty.
    """

    codes: Int[np.ndarray, " n"]
    C: float


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a problem ended.

    Args:
        parameters: (c, r + 1) weights along the axes of the basis, and the bias.
        objective: in double precision.
        gap: bound on how far it lies above the minimum, relative to it.
        iterations: steps taken.
    """

    parameters: Float[Array, "c q"]
    objective: float
    gap: float
    iterations: int


def minimise(
    basis: GramBasis,
    problems: Sequence[SoftmaxProblem],
    *,
    tolerance: float,
    maximum_iterations: int,
) -> list[Minimum]:
    """Return the minimum of each problem, within the tolerance or cut short.

    Single precision brings the parameters near; logits and gradient are then taken anew
    in double precision, which alone decides whether the gap is met.

    Args:
        basis: of the features that all problems share.
        problems: labels and penalties.
        tolerance: gap that counts as converged.
        maximum_iterations: of each problem.
    """
    states = [_State(basis, problem) for problem in problems]
    if _single_precision_serves(basis, problems):
        rough = max(ROUGH_SHARE * tolerance, SINGLE_PRECISION_GAP)
        _solve(_Rows.of(basis, "float32"), states, rough, maximum_iterations)
    _solve(_Rows.of(basis, "float64"), states, tolerance, maximum_iterations)
    return [
        Minimum(one.parameters, one.objective, one.gap, one.iterations)
        for one in states
    ]


def _single_precision_serves(
    basis: GramBasis, problems: Sequence[SoftmaxProblem]
) -> bool:
    n, r = basis.features.shape[0], basis.values.shape[0]
    if r == 0 or n * r < SINGLE_PRECISION_VALUES:
        return False
    # No entry is greater than the root of the first eigenvalue.
    sizes = [float(basis.values[0]) ** 0.5, *(one.C for one in problems)]
    return all(1 / SINGLE_PRECISION_RANGE < s < SINGLE_PRECISION_RANGE for s in sizes)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The features in one precision; the ones of the bias go without saying.

    Args:
        products: (n, k), along the axes of the basis or as they are.
        axes: (k, r), where they are as they are.
        spectrum: (r + 1,) squared length along each axis, that of the bias last.
    """

    products: Float[Array, "n k"]
    axes: Float[Array, "k r"] | None
    spectrum: Float[Array, " q"]

    @classmethod
    def of(cls, basis: GramBasis, kind: str) -> "_Rows":
        xp, device = namespace(basis.values), array_api_compat.device(basis.values)
        n, d = basis.features.shape
        count = xp.full((1,), float(n), dtype=xp.float64, device=device)
        spectrum = xp.concat([basis.values, count])
        rotates = basis.left is not None or basis.values.shape[0] < ROTATED_SHARE * d
        dtype = getattr(xp, kind)
        products = basis.rotated if rotates else basis.features
        return cls(
            xp.astype(products, dtype, copy=False),
            None if rotates else xp.astype(basis.axes, dtype, copy=False),
            xp.astype(spectrum, dtype),
        )

    def logits(self, parameters: Float[Array, "c q"]) -> Float[Array, "c n"]:
        weights = parameters[:, :-1]
        if self.axes is not None:
            weights = weights @ self.axes.T
        logits = weights @ self.products.T
        logits += parameters[:, -1:]
        return logits

    def gradients(self, residual: Float[Array, "c n"]) -> Float[Array, "c q"]:
        xp = namespace(residual)
        weights = residual @ self.products
        if self.axes is not None:
            weights = weights @ self.axes
        bias = xp.sum(residual, axis=1, keepdims=True)
        return xp.concat([weights, bias], axis=1)


class _State:
    """Where one problem stands; `logits` follow the parameters, classes by rows."""

    logits: Float[Array, "c n"]
    residual: Float[Array, "c n"]
    gradient: Float[Array, "c q"]
    diagonal: Float[Array, "c q"]
    penalty: Float[Array, " q"]
    objective: float
    gap: float

    def __init__(self, basis: GramBasis, problem: SoftmaxProblem) -> None:
        xp, device = namespace(basis.values), array_api_compat.device(basis.values)
        counts = np.bincount(problem.codes)
        parameters = np.zeros((len(counts), basis.values.shape[0] + 1))
        parameters[:, -1] = np.log(counts / counts.sum())
        self.parameters = xp.asarray(parameters, device=device)
        self.codes = xp.asarray(problem.codes, device=device)
        self.index = xp.arange(len(problem.codes), device=device)
        self.C = problem.C
        self.iterations = 0
        self.curvature = xp.full(
            (len(counts), 1), FIRST_CURVATURE, dtype=xp.float64, device=device
        )

    def begin(self, rows: _Rows, logits: Float[Array, "c n"]) -> None:
        """Stand at the parameters in the precision of the rows."""
        xp = namespace(logits)
        self.pairs: deque[_Pair] = deque(maxlen=MEMORY)
        self.refresh = max(FIRST_REFRESH, 2 * self.iterations)
        self.is_stuck = False
        self.bias_excess: float | None = None
        self.penalty = xp.ones_like(rows.spectrum) / self.C
        self.penalty[-1] = 0.0
        self.logits = logits
        self.loss, self.residual = self._cross_entropy(logits)
        self._assume(rows, self.curvature)

    def _assume(self, rows: _Rows, curvature: Float[Array, "c 1"]) -> None:
        xp = namespace(curvature)
        self.curvature = xp.astype(curvature, rows.spectrum.dtype)
        self.diagonal = self.curvature * rows.spectrum + self.penalty

    def _cross_entropy(
        self, logits: Float[Array, "c n"]
    ) -> tuple[float, Float[Array, "c n"]]:
        """Return the loss and its derivative by the logits, softmax - one-hot."""
        xp = namespace(logits)
        residual = logits - xp.max(logits, axis=0)
        own = residual[self.codes, self.index]
        residual = xp.exp(residual)
        totals = xp.sum(residual, axis=0)
        residual /= totals
        residual[self.codes, self.index] -= 1
        return float(xp.sum(xp.log(totals) - own, dtype=xp.float64)), residual

    def stand(self, gradient: Float[Array, "c q"]) -> None:
        """Take in the gradient of the loss: set gradient, objective and gap."""
        xp = namespace(gradient)
        weighed = self.penalty * self.parameters
        self.gradient = gradient + weighed
        self.objective = self.loss + _dot(weighed, self.parameters) / 2
        squares = self.gradient**2
        excess = float(self.C * xp.sum(squares[:, :-1])) / 2
        if self.bias_excess is None:
            excess += float(xp.sum(squares[:, -1] / self.diagonal[:, -1])) / 2
        else:
            excess += self.bias_excess
        self.gap = excess / max(self.objective, 1e-300)

    def settle(self, tolerance: float) -> None:
        """Move the bias to its minimum for these weights, up to a part of the gap.

        The bound on the gap needs it: no penalty holds the bias. Newton's method; as
        for a step, logits and softmax cost no product of the rows.
        """
        enough = SETTLED_SHARE * tolerance * self.loss
        for _ in range(SETTLING_STEPS):
            step, self.bias_excess = self._bias_step()
            if self.bias_excess <= enough:
                return
            logits = self.logits + step[:, None]
            loss, residual = self._cross_entropy(logits)
            if not loss < self.loss:
                return
            self.parameters[:, -1] += step
            self.logits, self.residual, self.loss = logits, residual, loss

    def _bias_step(self) -> tuple[Float[Array, " c"], float]:
        """Return Newton's step of the bias, and how much it promises."""
        xp = namespace(self.residual)
        share = xp.asarray(self.residual, copy=True)
        share[self.codes, self.index] += 1
        slope = host(xp.sum(self.residual, axis=1)).astype(np.float64)
        curvature = np.diag(host(xp.sum(share, axis=1))) - host(share @ share.T)
        curvature = curvature.astype(np.float64)
        # A constant added to all biases changes nothing: any number may stand there.
        curvature += np.trace(curvature) / len(slope) ** 2
        curvature += np.eye(len(slope)) * max(np.trace(curvature) * 1e-12, 1e-300)
        step = -np.linalg.solve(curvature, slope)
        device = array_api_compat.device(self.residual)
        step_there = xp.asarray(step, dtype=share.dtype, device=device)
        return step_there, max(float(-slope @ step) / 2, 0.0)

    def remember(self, change: Float[Array, "c q"]) -> None:
        """Keep the last move with its change of the gradient, unless it is rounding."""
        product, square = _dot(self.move, change), _dot(change, change / self.diagonal)
        if product > 0 and square > 0:
            self.pairs.append(_Pair(self.move, change, product))

    def measure_curvature(self, rows: _Rows) -> None:
        """Take the mean of p (1 - p) of each class, where it is time to."""
        if self.iterations < self.refresh:
            return
        xp = namespace(self.residual)
        share = xp.asarray(self.residual, copy=True)
        share[self.codes, self.index] += 1
        curvature = xp.mean(share * (1 - share), axis=1, keepdims=True)
        self._assume(rows, xp.maximum(curvature, LEAST_CURVATURE))
        self.refresh = 2 * self.iterations

    def direction(self) -> Float[Array, "c q"]:
        """Return the L-BFGS direction of descent (two loops)."""
        vector, weights = -self.gradient, []
        for pair in reversed(self.pairs):
            weights.append(_dot(pair.move, vector) / pair.product)
            vector -= weights[-1] * pair.change
        vector /= self.diagonal
        if self.pairs:
            last = self.pairs[-1]
            vector *= last.product / _dot(last.change, last.change / self.diagonal)
        for pair, weight in zip(self.pairs, reversed(weights), strict=True):
            vector += (weight - _dot(pair.change, vector) / pair.product) * pair.move
        return vector

    def search(
        self, direction: Float[Array, "c q"], change: Float[Array, "c n"]
    ) -> None:
        """Move along the direction, or be stuck where no step descends.

        Logits are linear in the step: trials cost a softmax and no product.
        """
        weighed = self.penalty * direction
        linear, square = _dot(weighed, self.parameters), _dot(weighed, direction)
        slope = _dot(self.residual, change) + linear
        bracket = _Bracket(slope)
        for _ in range(LINE_SEARCH_TRIALS if slope < 0 else 0):
            step = bracket.step
            logits = self.logits + step * change
            loss, residual = self._cross_entropy(logits)
            new_slope = _dot(residual, change) + linear + step * square
            rise = loss - self.loss + step * linear + step**2 * square / 2
            if abs(new_slope) <= -SLOPE_SHARE * slope and rise <= 0:
                self.move = step * direction
                self.parameters = self.parameters + self.move
                self.logits, self.residual, self.loss = logits, residual, loss
                self.iterations += 1
                self.bias_excess = None
                return
            bracket.narrow(new_slope, rise)
        self.is_stuck = True  # rounding hides any further descent


def _dot(first: Float[Array, "c q"], second: Float[Array, "c q"]) -> float:
    return float(first.reshape(-1) @ second.reshape(-1))


@dataclass(frozen=True, eq=False)
class _Pair:
    """A step, the change of the gradient along it, and their product."""

    move: Float[Array, "c q"]
    change: Float[Array, "c q"]
    product: float


def _solve(
    rows: _Rows, states: list[_State], tolerance: float, maximum_iterations: int
) -> None:
    xp, dtype = namespace(rows.products), rows.products.dtype
    for one in states:
        one.parameters = xp.astype(one.parameters, dtype)
    parts = _together(rows.logits, [one.parameters for one in states])
    for one, logits in zip(states, parts, strict=True):
        one.begin(rows, logits)
    moved = states
    while moved:
        for one in moved:
            one.settle(tolerance)
        _stand(rows, moved)
        moved = _descend(rows, states, tolerance, maximum_iterations)


def _descend(
    rows: _Rows, states: list[_State], tolerance: float, maximum_iterations: int
) -> list[_State]:
    """Move the states until each is done; return those that moved."""
    begun = [one.iterations for one in states]
    while True:
        going = [
            one
            for one in states
            if one.gap > tolerance
            and one.iterations < maximum_iterations
            and not one.is_stuck
        ]
        if not going:
            pairs = zip(states, begun, strict=True)
            return [one for one, iterations in pairs if one.iterations > iterations]
        directions = [one.direction() for one in going]
        changes = _together(rows.logits, directions)
        for one, direction, change in zip(going, directions, changes, strict=True):
            one.search(direction, change)
        moved = [one for one in going if not one.is_stuck]
        before = [one.gradient for one in moved]
        _stand(rows, moved)
        for one, gradient in zip(moved, before, strict=True):
            one.remember(one.gradient - gradient)
            one.measure_curvature(rows)


def _stand(rows: _Rows, states: list[_State]) -> None:
    parts = _together(rows.gradients, [one.residual for one in states])
    for one, gradient in zip(states, parts, strict=True):
        one.stand(gradient)


def _together(
    apply: Callable[[Array], Array], parts: list[Array]
) -> list[Float[Array, "c q"]]:
    """Return what each part gives, from one product of all."""
    if not parts:
        return []
    xp = namespace(parts[0])
    whole = apply(xp.concat(parts, axis=0) if len(parts) > 1 else parts[0])
    ends = np.cumsum([part.shape[0] for part in parts]).tolist()
    return [
        whole[end - part.shape[0] : end, :]
        for end, part in zip(ends, parts, strict=True)
    ]


class _Bracket:
    """The next step to try, from the slopes of a convex function at earlier ones."""

    def __init__(self, slope: float) -> None:
        self.step = 1.0
        self.low, self.low_slope = 0.0, slope
        self.high, self.high_slope = np.inf, np.inf

    def narrow(self, slope: float, rise: float) -> None:
        """Take in the slope at `step`, and by how much the function lies above 0."""
        if slope > 0 or rise > 0:
            self.high, self.high_slope = self.step, max(slope, 0.0)
        else:
            self.low, self.low_slope = self.step, slope
        if np.isinf(self.high):
            self.step = 4 * self.low
            return
        share = self.low_slope / (self.low_slope - self.high_slope)
        self.step = self.low + (self.high - self.low) * min(max(share, 0.1), 0.9)
