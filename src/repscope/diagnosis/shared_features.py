"""RS302: are the same few features the greatest of nearly every image?

Only features that are not negative have a meaningful greatest one: in signed features,
such as a vision transformer's, one coordinate dominates by nature.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Status

# Sound controls stay below .2 and 4.3.
ARGMAX_CONCENTRATED = 0.3
SHARED_INDEX = 5.0


def decide(evidence: Evidence) -> Judgement:
    """Return whether a few features are always on."""
    concentration = evidence.value("argmax_concentration")
    index = evidence.value("shared_feature_index")
    shown = evidence.those("argmax_concentration", "shared_feature_index")
    if concentration is None or index is None:
        return undecided("No feature varies or is on.", shown)
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
    if index < SHARED_INDEX:
        return absent(f"{told}: widely shared, but not dominant.", shown)
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
