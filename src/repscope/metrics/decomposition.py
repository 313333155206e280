"""Which part of a loss does training work on: invariance or regularization?

A loss that splits into total = invariance + regularization falls by what both parts
fall; their shares of the fall say which one moved. Training's rows name the parts
"total", "invariance" and "regularization".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from repscope._checking import InputError, Undecidable, UsageError, check_length
from repscope.metrics.curves import SATURATED_SHARE, as_curve, saturation_epoch
from repscope.metrics.metric import Estimate, metric

# Rounding of float32 sums, relative to the larger of the parts.
SPLIT_TOLERANCE = 1e-6

_SOURCE = "Ben-Shaul et al. 2023, Fig. 3"
_MISLEADS = (
    "the other part may rise while this one falls, which gives shares outside [0, 1]; "
    "early epochs, where invariance collapses, weigh most: begin where it is saturated"
)

Losses = Real[np.ndarray, " t"] | Sequence[float | int | None]


@dataclass(frozen=True, eq=False)
class LossCurves:
    """The parts of a loss, one mean per epoch.

    Args:
        epochs: (t,) ascending.
        total: (t,) what was minimised.
        invariance: (t,) the part that pulls views of one image together, weighted as
            in the total.
        regularization: (t,) the rest.
    """

    epochs: Float[np.ndarray, " t"]
    total: Float[np.ndarray, " t"]
    invariance: Float[np.ndarray, " t"]
    regularization: Float[np.ndarray, " t"]

    @classmethod
    def of(
        cls, epochs: Losses, total: Losses, invariance: Losses, regularization: Losses
    ) -> "LossCurves":
        """Return the means per epoch of rows of a training run.

        Args:
            epochs: the epoch of each row; several rows of one epoch are averaged.
            total: of each row.
            invariance: of each row.
            regularization: of each row.

        Raises:
            InputError: where lengths differ or a number is not finite.
            Undecidable: where a part is missing, or total is not invariance +
                regularization to 1e-6 of the larger of them.

        Source: Ben-Shaul et al. 2023, Fig. 3. As in the source.

        Example:
            >>> curves = LossCurves.of([0, 0, 1], [5, 7, 4], [1, 3, 1], [4, 4, 3])
            >>> curves.total.tolist(), curves.invariance.tolist()
            ([6.0, 4.0], [2.0, 1.0])
        """
        given = {
            "total": total,
            "invariance": invariance,
            "regularization": regularization,
        }
        known = {name: _present(name, values) for name, values in given.items()}
        times = as_curve(_present("epochs", epochs), "epochs")
        for name, values in known.items():
            check_length(name, len(values), len(times), "the epochs")
        _check_split(**known)
        order, codes = np.unique(times, return_inverse=True)
        rows = np.bincount(codes)
        means = {
            name: np.bincount(codes, weights=values) / rows
            for name, values in known.items()
        }
        return cls(epochs=order, **means)

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, object]]) -> "LossCurves":
        """Return the means per epoch of the rows of a run's ``metrics.jsonl``.

        Args:
            rows: each with "epoch", "total", "invariance" and "regularization".

        Raises:
            InputError: where a row has no epoch or no total.
            Undecidable: where a part is missing, or the parts do not add up.
        """
        for k, row in enumerate(rows):
            for name in ("epoch", "total"):
                if name not in row:
                    raise InputError(f"rows: row {k} has no {name!r}")
        names = ("epoch", "total", "invariance", "regularization")
        columns = {name: [row.get(name) for row in rows] for name in names}
        return cls.of(*columns.values())  # type: ignore[arg-type]

    def divided_by(self, weight: int | float) -> "LossCurves":
        """Return the losses in units of a weight, such as mu of VICReg.

        Runs with other weights then lie on one scale. Shares do not change.

        Args:
            weight: above 0.

        Raises:
            UsageError: where the weight is not positive and finite.

        Source: Ben-Shaul et al. 2023, Fig. 10 (losses divided by mu). As in the source.
        """
        if not (weight > 0 and np.isfinite(weight)):
            raise UsageError("weight", found=str(weight), expected="above 0, finite")
        return LossCurves(
            epochs=self.epochs,
            total=self.total / weight,
            invariance=self.invariance / weight,
            regularization=self.regularization / weight,
        )

    def window_after_invariance(
        self, *, share: float = SATURATED_SHARE
    ) -> tuple[float, float]:
        """Return (first, last) epoch of the window in which invariance is saturated.

        At first invariance falls and regularization may rise; what training works on
        from then on is seen from the epoch at which invariance has made most of its
        change.

        Args:
            share: of the whole change of invariance, above 0 and at most 1.

        Raises:
            Undecidable: with fewer than two epochs, or where invariance ends where it
                began or is saturated only at the last epoch.
        """
        first = saturation_epoch(self.epochs, self.invariance, share=share).value
        last = float(self.epochs[-1])
        if first == last:
            raise Undecidable("invariance is saturated only at the last epoch")
        return first, last


def _present(name: str, values: Losses) -> Float[np.ndarray, " t"]:
    given = list(values)
    if any(one is None for one in given):
        if name in ("epochs", "total"):
            raise InputError(f"{name}: row {given.index(None)} has none")
        raise Undecidable(f"no additive split: the loss has no {name}")
    return as_curve(np.asarray(given, dtype=np.float64), name)


def _check_split(
    total: Float[np.ndarray, " t"],
    invariance: Float[np.ndarray, " t"],
    regularization: Float[np.ndarray, " t"],
) -> None:
    size = np.maximum(np.abs(invariance), np.abs(regularization))
    gap = np.abs(total - (invariance + regularization))
    wrong = np.flatnonzero(gap > SPLIT_TOLERANCE * np.maximum(size, np.abs(total)))
    if len(wrong):
        k = wrong[0]
        raise Undecidable(
            f"no additive split: in row {k} total is {total[k]:.6g}, invariance + "
            f"regularization {invariance[k] + regularization[k]:.6g}"
        )


@metric(
    title="regularization's share of the fall in loss",
    formula="(reg(t0) - reg(t1)) / (total(t0) - total(t1)), epoch means",
    needs="curve",
    range="(-∞, ∞); 1 where only regularization fell, above 1 where invariance rose",
    direction="none",
    minimum_n=2,
    cost="O(t)",
    source=_SOURCE,
    misleads=_MISLEADS,
)
def regularization_share(
    losses: LossCurves,
    *,
    start: int | float | None = None,
    end: int | float | None = None,
) -> Estimate:
    """Return the part of the fall in loss that regularization accounts for.

    (reg(t0) - reg(t1)) / (total(t0) - total(t1)); with `invariance_share` it adds up
    to 1.

    Args:
        losses: means per epoch.
        start: epoch t0; the first where None. `losses.window_after_invariance()` gives
            the window in which invariance is saturated.
        end: epoch t1; the last where None.

    Returns:
        1 where only regularization fell, 0 where only invariance did; neither is
        better. Details: the window, and the fall of each part.

    Raises:
        UsageError: where an epoch is not among those measured, or start is not before
            end.
        Undecidable: where the total does not change by more than rounding.

    Source: Ben-Shaul et al. 2023, Fig. 3. Differs from the source in giving the
    reading of it a number.

    Example:
        >>> regularization_share(LossCurves.of([0, 1], [4, 2], [1, 1], [3, 1])).value
        1.0
    """
    fall = _Fall.of(losses, start, end)
    return fall.estimate(fall.regularization)


@metric(
    title="invariance's share of the fall in loss",
    formula="(inv(t0) - inv(t1)) / (total(t0) - total(t1)), epoch means",
    needs="curve",
    range="(-∞, ∞); 1 where only invariance fell, above 1 where regularization rose",
    direction="none",
    minimum_n=2,
    cost="O(t)",
    source=_SOURCE,
    misleads=_MISLEADS,
)
def invariance_share(
    losses: LossCurves,
    *,
    start: int | float | None = None,
    end: int | float | None = None,
) -> Estimate:
    """Return the part of the fall in loss that invariance accounts for.

    (inv(t0) - inv(t1)) / (total(t0) - total(t1)); with `regularization_share` it adds
    up to 1.

    Args:
        losses: means per epoch.
        start: epoch t0; the first where None.
        end: epoch t1; the last where None.

    Returns:
        1 where only invariance fell, 0 where only regularization did; neither is
        better. Details: the window, and the fall of each part.

    Raises:
        UsageError: where an epoch is not among those measured, or start is not before
            end.
        Undecidable: where the total does not change by more than rounding.

    Source: Ben-Shaul et al. 2023, Fig. 3. Differs from the source in giving the
    reading of it a number.

    Example:
        >>> invariance_share(LossCurves.of([0, 1], [4, 1], [2, 1], [2, 0])).value
        0.3333333333333333
    """
    fall = _Fall.of(losses, start, end)
    return fall.estimate(fall.invariance)


@dataclass(frozen=True)
class _Fall:
    """By how much the loss and its parts fell from one epoch to another."""

    start: float
    end: float
    total: float
    invariance: float
    regularization: float

    @classmethod
    def of(
        cls, losses: LossCurves, start: int | float | None, end: int | float | None
    ) -> "_Fall":
        first = 0 if start is None else _position(losses, start, "start")
        last = len(losses.epochs) - 1 if end is None else _position(losses, end, "end")
        if first == last and start is None and end is None:
            raise Undecidable("one epoch only: there is no course")
        if first >= last:
            found = f"{losses.epochs[first]:g} and {losses.epochs[last]:g}"
            raise UsageError("start is not before end", found=found)
        total = losses.total[first] - losses.total[last]
        ends = [first, last]
        parts = np.stack([losses.total, losses.invariance, losses.regularization])
        if abs(total) <= SPLIT_TOLERANCE * np.abs(parts[:, ends]).max():
            raise Undecidable("the total loss did not change by more than rounding")
        return cls(
            start=float(losses.epochs[first]),
            end=float(losses.epochs[last]),
            total=float(total),
            invariance=float(losses.invariance[first] - losses.invariance[last]),
            regularization=float(
                losses.regularization[first] - losses.regularization[last]
            ),
        )

    def estimate(self, part: float) -> Estimate:
        return Estimate(
            part / self.total,
            details={
                "start": self.start,
                "end": self.end,
                "total_fall": self.total,
                "invariance_fall": self.invariance,
                "regularization_fall": self.regularization,
            },
        )


def _position(losses: LossCurves, epoch: int | float, name: str) -> int:
    found = np.flatnonzero(losses.epochs == epoch)
    if len(found) == 0:
        known = ", ".join(f"{one:g}" for one in losses.epochs[:8])
        raise UsageError(f"{name}: epoch {epoch:g} was not measured", expected=known)
    return int(found[0])
