"""RS302: are the same few features the greatest of nearly every image?

Only features that are not negative have a meaningful greatest one: in signed features,
such as a vision transformer's, one coordinate dominates by nature.
"""

import math

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Status

ARGMAX_CONCENTRATED = 0.3
# Of fewer rows, several agree on the greatest feature by chance.
MINIMUM_ROWS = 20
# Rows with a common mean make some features large in all of them, at random: rectified
# projections of pixels and untrained layers reach .9 of `chance_index`.
SHARED_BEYOND_CHANCE = 1.15


def chance_index(d: int) -> float:
    """Return the shared-feature index that a common mean alone gives: 2 sqrt(π ln d).

    The greatest of d standard normal column means is about sqrt(2 ln d), their mean
    after a rectifier 1 / sqrt(2 π).
    """
    return 2 * math.sqrt(math.pi * math.log(max(d, 2)))


def decide(evidence: Evidence) -> Judgement:
    """Return whether a few features are always on."""
    concentration = evidence.value("argmax_concentration")
    index = evidence.value("shared_feature_index")
    shown = evidence.those("argmax_concentration", "shared_feature_index")
    if concentration is None or index is None:
        return undecided("No feature varies or is on.", shown)
    measured = evidence.measurement("shared_feature_index")
    n, d = (measured.n, measured.d or 1) if measured else (0, 1)
    if n < MINIMUM_ROWS:
        return undecided(f"{n} rows; {MINIMUM_ROWS} are needed.", shown)
    told = (
        f"One feature is the greatest of {concentration:.0%} of the rows; the most "
        f"used "
        f"carries {index:.1f} times the average"
    )
    if concentration < ARGMAX_CONCENTRATED:
        return absent(f"{told}.", shown)
    if evidence.is_negative:
        return undecided(
            f"{told}. These features take both signs, even standardised: whether that "
            f"is "
            "a fault cannot be told from them. Use features after a rectifier.",
            shown,
        )
    if index < SHARED_BEYOND_CHANCE * chance_index(d):
        return absent(
            f"{told}: shared no wider than a common mean of the rows makes it.", shown
        )
    return Judgement(
        Status.FOUND,
        f"{told}: they say the same of every image.",
        action="Penalise columns that are always on (the second term of the Q-Score "
        "regulariser, or column balance), or drop these features before use.",
        evidence=shown,
    )


CHECK = Check(
    code="RS302",
    title="shared features",
    severity="warning",
    needs="features that are not negative",
    name="shared_features",
    remedies=("column_balance", "drop_features"),
    decide=decide,
)
