"""Multinomial logistic regression, solved to a stated distance from its optimum.

The optimum is scikit-learn's. The way there is a quasi-Newton method in the eigenbasis
of the features, where a diagonal per class follows the curvature of the softmax:
correlated features, such as pixels, then cost few more iterations than independent
ones.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from repscope._checking import UsageError
from repscope.metrics.gram import GramBasis

# Curvature p (1 - p) that is assumed of each class at first, where a small one takes
# steps that are too long on separable classes, and the least that is assumed later.
FIRST_CURVATURE, LEAST_CURVATURE = 0.05, 5e-4
# The curvature is measured again after 10, 20, 40, ... iterations.
FIRST_REFRESH = 10
# Pairs of steps and gradient differences that the quasi-Newton method remembers.
MEMORY = 10
# A step is accepted where the slope along it has fallen to this share.
SLOPE_SHARE = 0.5
LINE_SEARCH_TRIALS = 20
# From this many values on, products are taken in single precision until the last steps.
SINGLE_PRECISION_VALUES = 2**20
SINGLE_PRECISION_RANGE = 1e15


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """A fitted multinomial logistic regression.

    Args:
        weights: (d, c); zero for classes without rows.
        bias: (c,); -inf for classes without rows.
        objective: sum of cross-entropies + |weights|^2 / (2 C), in double precision.
        gap: bound on how far the objective lies above its minimum, relative to it.
        iterations: quasi-Newton steps.
        converged: whether the gap is within the tolerance.
    """

    weights: Float[np.ndarray, "d c"]
    bias: Float[np.ndarray, " c"]
    objective: float
    gap: float
    iterations: int
    converged: bool

    def scores(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Return the logit of each class; -inf for classes without training rows."""
        return features @ self.weights + self.bias


def multinomial_logistic(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    C: float = 1.0,
    tolerance: float = 1e-3,
    maximum_iterations: int = 500,
    basis: GramBasis | None = None,
) -> LogisticFit:
    """Return the minimum of sum CE + |W|^2 / (2 C); the bias is not penalised.

    The penalty makes the objective strongly convex, so that the gradient bounds the
    distance from the minimum: f - min f <= C |gradient|^2 / 2 for the weights; for the
    bias, whose gradient is zero but for rounding, the measured curvature stands in.

    Args:
        features: (n, d).
        labels: (n,) class codes from 0 to n_classes - 1; classes may be absent.
        n_classes: number of classes c.
        C: inverse strength of the penalty, above 0.
        tolerance: relative gap above the minimum that counts as converged.
        maximum_iterations: after which it stops, converged or not.
        basis: of these features, where it is known already.

    Raises:
        UsageError: where C is not positive.

    Source: the objective of scikit-learn's LogisticRegression; Liu, Nocedal 1989 for
    the method. Differs from the source in preconditioning it class by class.

    Example:
        >>> features, labels = np.array([[-1.0], [0.0], [1.0]]), np.array([0, 0, 1])
        >>> fit = multinomial_logistic(features, labels, 2)
        >>> fit.converged, fit.scores(features).argmax(axis=1).tolist()
        (True, [0, 0, 1])
    """
    if not C > 0:
        raise UsageError("C: a penalty", found=str(C), expected="above 0")
    present, codes = np.unique(labels, return_inverse=True)
    mean = np.zeros(features.shape[1])
    if basis is None:
        # A shift is undone by the bias, which is not penalised.
        mean = features.mean(axis=0, dtype=np.float64)
        basis = GramBasis.of(features - mean)
    found = _Solver(basis, codes, C).solve(tolerance, maximum_iterations)
    weights = np.zeros((features.shape[1], n_classes))
    weights[:, present] = basis.axes @ found.parameters[:-1]
    bias = np.full(n_classes, -np.inf)
    bias[present] = found.parameters[-1] - mean @ weights[:, present]
    return LogisticFit(
        weights=weights,
        bias=bias,
        objective=found.objective,
        gap=found.gap,
        iterations=found.iterations,
        converged=found.gap <= tolerance,
    )


@dataclass(eq=False)
class _State:
    """Where the solver stands; `logits` follow the parameters."""

    parameters: Float[np.ndarray, "r c"]
    logits: Float[np.ndarray, "n c"]
    residual: Float[np.ndarray, "n c"]
    gradient: Float[np.ndarray, "r c"]
    objective: float
    gap: float = np.inf
    iterations: int = 0


class _Solver:
    """Quasi-Newton steps on one problem; its last row of parameters is the bias."""

    def __init__(
        self, basis: GramBasis, codes: Int[np.ndarray, " n"], C: float
    ) -> None:
        self.codes, self.C = codes, C
        self.rows = np.column_stack([basis.rotated, np.ones(len(codes))])
        self.spectrum = np.append(basis.values, len(codes))
        self.index = np.arange(len(codes))
        self.n_classes = int(codes.max()) + 1
        self.penalty = np.full((len(self.spectrum), 1), 1 / C)
        self.penalty[-1] = 0.0
        self.products = self.rows
        self._assume(np.full(self.n_classes, FIRST_CURVATURE))

    def solve(self, tolerance: float, maximum_iterations: int) -> _State:
        """Return the state within the tolerance, or that of the last iteration.

        Single precision brings the parameters near; logits and gradient are then taken
        anew in double precision, which alone decides whether the gap is met.
        """
        counts = np.bincount(self.codes)
        parameters = np.zeros((len(self.penalty), self.n_classes))
        parameters[-1] = np.log(counts / counts.sum())
        state = self._state_at(parameters)
        if self._single_precision_serves():
            self.products = self.rows.astype(np.float32)
            self._descend(state, tolerance, maximum_iterations)
            self.products = self.rows
            iterations = state.iterations
            state = self._state_at(state.parameters)
            state.iterations = iterations
        self._descend(state, tolerance, maximum_iterations)
        return state

    def _single_precision_serves(self) -> bool:
        if self.rows.size < SINGLE_PRECISION_VALUES:
            return False
        greatest = float(np.abs(self.rows).max())
        return 1 / SINGLE_PRECISION_RANGE < greatest < SINGLE_PRECISION_RANGE

    def _state_at(self, parameters: Float[np.ndarray, "r c"]) -> _State:
        logits = self._logits(parameters)
        loss, residual = self._cross_entropy(logits)
        state = _State(parameters, logits, residual, np.zeros_like(parameters), loss)
        self._complete(state, loss)
        return state

    def _logits(self, parameters: Float[np.ndarray, "r c"]) -> np.ndarray:
        products = self.products @ parameters.astype(self.products.dtype, copy=False)
        return products.astype(np.float64, copy=False)

    def _cross_entropy(
        self, logits: Float[np.ndarray, "n c"]
    ) -> tuple[float, Float[np.ndarray, "n c"]]:
        """Return the loss and its derivative by the logits, softmax - one-hot."""
        residual = logits - logits.max(axis=1, keepdims=True)
        own = residual[self.index, self.codes].sum()
        np.exp(residual, out=residual)
        totals = residual.sum(axis=1, keepdims=True)
        residual /= totals
        residual[self.index, self.codes] -= 1
        return float(np.log(totals).sum() - own), residual

    def _complete(self, state: _State, loss: float) -> None:
        """Set gradient, objective and gap from parameters and residual."""
        residual = state.residual.astype(self.products.dtype, copy=False)
        state.gradient = self.products.T @ residual + self.penalty * state.parameters
        state.objective = loss + float((self.penalty * state.parameters**2).sum()) / 2
        squares = state.gradient**2
        excess = self.C * squares[:-1].sum() + (squares[-1] / self.diagonal[-1]).sum()
        state.gap = float(excess / 2 / max(state.objective, 1e-300))

    def _assume(self, curvature: Float[np.ndarray, " c"]) -> None:
        self.diagonal = self.spectrum[:, None] * curvature + self.penalty

    def _measure_curvature(self, state: _State) -> None:
        share = state.residual.copy()
        share[self.index, self.codes] += 1
        curvature = (share * (1 - share)).mean(axis=0)
        self._assume(np.maximum(curvature, LEAST_CURVATURE))

    def _descend(self, state: _State, tolerance: float, maximum: int) -> None:
        pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=MEMORY)
        refresh = FIRST_REFRESH
        while state.gap > tolerance and state.iterations < maximum:
            direction = -self._newton_like(state.gradient, pairs)
            before = state.gradient
            step = self._line_search(state, direction)
            if step == 0:
                return  # rounding hides any further descent
            state.iterations += 1
            pairs.append((step * direction, state.gradient - before))
            if state.iterations >= refresh:
                self._measure_curvature(state)
                refresh = 2 * state.iterations

    def _newton_like(
        self,
        gradient: Float[np.ndarray, "r c"],
        pairs: deque[tuple[np.ndarray, np.ndarray]],
    ) -> Float[np.ndarray, "r c"]:
        """Return the L-BFGS product with the gradient (two loops)."""
        vector, weights = gradient.copy(), []
        for move, change in reversed(pairs):
            weights.append(np.vdot(move, vector) / np.vdot(move, change))
            vector -= weights[-1] * change
        vector /= self.diagonal
        if pairs:
            move, change = pairs[-1]
            vector *= np.vdot(move, change) / np.vdot(change, change / self.diagonal)
        for (move, change), weight in zip(pairs, reversed(weights), strict=True):
            back = np.vdot(change, vector) / np.vdot(move, change)
            vector += (weight - back) * move
        return vector

    def _line_search(self, state: _State, direction: Float[np.ndarray, "r c"]) -> float:
        """Move the state along the direction; return the step, 0 where none descends.

        Logits are linear in the step: trials cost a softmax and no product.
        """
        change = self._logits(direction)
        linear = float((self.penalty * state.parameters * direction).sum())
        square = float((self.penalty * direction**2).sum())
        slope = float(np.vdot(state.residual, change)) + linear
        bracket = _Bracket(slope)
        loss_before = state.objective - (self.penalty * state.parameters**2).sum() / 2
        for _ in range(LINE_SEARCH_TRIALS if slope < 0 else 0):
            step = bracket.step
            logits = state.logits + step * change
            loss, residual = self._cross_entropy(logits)
            new_slope = float(np.vdot(residual, change)) + linear + step * square
            rise = loss - loss_before + step * linear + step**2 * square / 2
            if abs(new_slope) <= -SLOPE_SHARE * slope and rise <= 0:
                state.parameters = state.parameters + step * direction
                state.logits, state.residual = logits, residual
                self._complete(state, loss)
                return step
            bracket.narrow(new_slope, rise)
        return 0.0


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
