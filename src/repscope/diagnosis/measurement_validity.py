"""RS502: can the numbers be trusted at this many rows?

An advisory: spectra of few rows are biased, and not every spectrum is a power law.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Measurement, Status

# Below this many rows per feature a small alpha is biased: downwards where the ranks
# fitted are few of all (alpha 1 at n = d = 512 by 9 %), upwards where they are many (by
# 16 % at n = 128, d = 64, where a true .8 is read as up to 1.1).
ROWS_PER_FEATURE = 8
ALPHA_BIASED_BELOW = 1.3
MORE_ROWS = "Embed more images, or compare only runs measured on the same ones."


def decide(evidence: Evidence) -> Judgement:
    """Return whether sample size or shape of the spectrum limits what was measured."""
    rank = evidence.measurement("effective_rank_covariance")
    alpha = evidence.measurement("alpha")
    shown = evidence.those("alpha", "effective_rank_covariance")
    if rank is None or rank.d is None:
        return undecided("The spectrum was not measured.", shown)
    told, todo = [], []
    n, d = rank.n, rank.d
    if n <= d:
        told.append(
            f"{n:,} rows of {d:,} features: ranks are lower bounds, for the spectrum "
            f"shows {max(n - 1, 0):,} dimensions at most"
        )
        todo.append(MORE_ROWS)
    elif n < ROWS_PER_FEATURE * d and _is_small(alpha):
        told.append(
            f"{n / d:.1f} rows per feature bias an α of this size; "
            f"{ROWS_PER_FEATURE} per feature are needed"
        )
        todo.append(MORE_ROWS)
    if alpha is not None and alpha.value is None:
        told.append(f"α has no value ({alpha.reason})")
        todo.append("Read the effective ranks instead of α.")
    if not told:
        return absent(f"{n:,} rows of {d:,} features suffice.", shown)
    return Judgement(
        Status.FOUND,
        "; ".join(told) + ".",
        action=" ".join(todo),
        evidence=shown,
    )


def _is_small(alpha: Measurement | None) -> bool:
    value = None if alpha is None else alpha.value
    return value is not None and value < ALPHA_BIASED_BELOW


CHECK = Check(
    code="RS502",
    title="measurement not trustworthy",
    severity="advisory",
    needs="features",
    name="measurement_validity",
    remedies=("more_samples",),
    decide=decide,
)
