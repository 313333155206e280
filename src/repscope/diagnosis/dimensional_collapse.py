"""RS102: do the features span only a few of their dimensions?

Where no reference decides, three numbers must agree: the effective rank of the
covariance is small, so is that of the singular values, which still sees a long tail of
small ones, and so is that of the correlation, which units do not touch. Raw natural
images and untrained encoders fail the first and pass the others.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Measurement, Status

# Sound encoders reach 5.3 (64 features, trained for a minute) and more, trained and
# planted collapses 1 to 4; untrained networks lie among them, at 3 to 7, and are told
# apart by the two other numbers.
EFFECTIVE_RANK_COLLAPSED = 5.0
# For wide features the bound grows with the rank that n and d allow.
SHARE_OF_RANK_COLLAPSED = 0.01
# A collapse leaves less than this share of the allowed rank...
EFFECTIVE_RANK_SHARE_COLLAPSED = 0.2
# ...and up to this share the evidence does not decide.
EFFECTIVE_RANK_SHARE_BORDER = 0.25
BORDER_FACTOR = 1.5
# With a tail this short the rank is suspect however large it is: controls keep .27.
EFFECTIVE_RANK_SHARE_SUSPECT = 0.1
# Features narrower than this are not many dimensions to begin with.
MINIMUM_RANK_BOUND = 10
# A reference of the same images with this many times the rank decides a borderline
# case.
REFERENCE_FACTOR = 3.0
# Labels that a probe reads this well need only c - 1 dimensions.
SKILL_SEPARATED = 0.9
# From this skill on the explanation says how a probe can still read them.
SKILL_STILL_READ = 0.5


def decide(evidence: Evidence) -> Judgement:
    """Return whether variance has collapsed onto few dimensions."""
    covariance = evidence.measurement("effective_rank_covariance")
    singular = evidence.measurement("effective_rank")
    shown = evidence.those(
        "effective_rank_covariance",
        "effective_rank",
        "effective_rank_correlation",
        "n_components",
        "anisotropy",
        "effective_rank_covariance@reference",
    )
    if covariance is None or singular is None:
        return undecided("The spectrum was not measured.", shown)
    if covariance.value is None or singular.value is None:
        return undecided(f"No spectrum to judge: {covariance.reason}.", shown)
    bound = rank_bound(covariance)
    if bound < MINIMUM_RANK_BOUND:
        return undecided(
            f"{covariance.n:,} rows of {covariance.d} features span at most {bound} "
            f"dimensions; {MINIMUM_RANK_BOUND} are needed to tell few from many.",
            shown,
        )
    judgement = _judge(evidence, covariance.value, singular.value, bound, shown)
    if judgement.status is Status.FOUND:
        return _unless_few_carry_it(evidence, covariance, bound, judgement)
    return judgement


def rank_bound(measurement: Measurement) -> int:
    """Return min(n - 1, d), the greatest rank that centred features can have."""
    return min(measurement.n - 1, measurement.d or 0)


def _judge(
    evidence: Evidence,
    covariance: float,
    singular: float,
    bound: int,
    shown: tuple[Measurement, ...],
) -> Judgement:
    limit = rank_limit(bound)
    share = singular / bound
    told = (
        f"Variance spreads over {covariance:.1f} of {bound:,} possible dimensions "
        f"(effective rank of the covariance); small ones included, {singular:.1f}"
    )
    few = covariance <= limit and share <= EFFECTIVE_RANK_SHARE_COLLAPSED
    border = share <= EFFECTIVE_RANK_SHARE_SUSPECT or (
        covariance <= BORDER_FACTOR * limit and share <= EFFECTIVE_RANK_SHARE_BORDER
    )
    reference = evidence.value("effective_rank_covariance", layer="reference")
    if border and reference is not None and reference >= REFERENCE_FACTOR * covariance:
        few = True
        told += f". The reference spreads over {reference:.1f}"
    if few and _labels_explain(evidence, covariance):
        return undecided(
            f"{told}. A probe reads the labels almost perfectly, and they need no more "
            "dimensions: whether anything else was lost cannot be told from them.",
            shown,
        )
    if few:
        return Judgement(
            Status.FOUND,
            f"{told}.{_still_read(evidence)}",
            action="Strengthen what decorrelates features (the covariance or "
            "redundancy "
            "term, more negatives, a wider projector) and train again; do not "
            "fine-tune on what is left.",
            evidence=shown,
        )
    if border:
        return undecided(
            f"{told}: few, but not few enough to call it a collapse. A reference of "
            f"the "
            "same images (an untrained encoder, pixels) would decide.",
            shown,
        )
    return absent(f"{told}.", shown)


def _unless_few_carry_it(
    evidence: Evidence, covariance: Measurement, bound: int, found: Judgement
) -> Judgement:
    """Return undecided where a few features or rows alone make the rank small."""
    # A reference may decide a larger rank than the limit: then it is the rank itself.
    limit = BORDER_FACTOR * max(rank_limit(bound), covariance.value or 0.0)
    told = found.explanation.partition(". ")[0].rstrip(".")
    standardised = evidence.value("effective_rank_correlation")
    if standardised is not None and standardised > limit:
        return undecided(
            f"{told}, but {standardised:.1f} once each feature is divided by its "
            "deviation: either a few features have larger units than the others, or "
            "the others hold next to nothing.",
            found.evidence,
        )
    if covariance.interval is not None and covariance.interval[1] > limit:
        return undecided(
            f"{told}, but that hangs on a few rows: with some left out it may be "
            f"{covariance.interval[1]:.1f}. Look for rows of another scale.",
            found.evidence,
        )
    return found


def rank_limit(bound: int) -> float:
    """Return the effective rank of the covariance up to which variance is on few."""
    return max(EFFECTIVE_RANK_COLLAPSED, SHARE_OF_RANK_COLLAPSED * bound)


def _still_read(evidence: Evidence) -> str:
    """Return why a probe may read as much as before, where it reads a lot."""
    skills = [evidence.skill(level) or 0.0 for level in evidence.levels]
    if max(skills, default=0.0) < SKILL_STILL_READ:
        return ""
    return (
        f" A linear probe on standardised features still reads labels (skill "
        f"{max(skills):.2f}), since it blows small dimensions up; distances between "
        "images, and anything noisy, hardly see them."
    )


def _labels_explain(evidence: Evidence, covariance: float) -> bool:
    """Return whether the rank left is what the finest labels, well separated, need."""
    if not evidence.levels:
        return False
    finest = evidence.levels[0]
    classes = evidence.detail("linear_accuracy", "n_classes", level=finest)
    skill = evidence.skill(finest)
    if classes is None or skill is None or skill < SKILL_SEPARATED:
        return False
    return covariance >= 0.5 * (classes - 1)


CHECK = Check(
    code="RS102",
    title="dimensional collapse",
    severity="failure",
    needs="features, at least 11 rows and 10 dimensions; a reference decides borders",
    name="dimensional_collapse",
    remedies=("raise_decorrelation", "widen_projector"),
    decide=decide,
)
