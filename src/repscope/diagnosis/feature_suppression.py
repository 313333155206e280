"""RS202: did an easy factor drown what the labels ask for?

Labels and features alone cannot tell: a hard label set looks the same. The reference is
the same probe on raw pixels, on an untrained encoder or on a second one; failing those,
the shares of variance that factor and labels explain, which decide only extreme cases.
"""

from collections.abc import Sequence

from repscope.diagnosis.check import (
    Check,
    Evidence,
    Judgement,
    absent,
    not_applicable,
    undecided,
)
from repscope.diagnosis.flat_spectrum import FLATNESS_NOISE
from repscope.records import Measurement, Status

# Share of the reference's skill that is lost.
SUPPRESSION_FOUND = 0.3
# The reference must itself read the labels this well.
REFERENCE_SKILL = 0.2
# Of fewer test rows, a handful got wrong would do: its bootstrap is too sure.
MINIMUM_TEST_ROWS = 30
# A factor is an easy one if a linear probe reads it this well.
FACTOR_SKILL = 0.8
# Without a reference: the factors together explain at least this share of the variance,
# ...
FACTOR_SHARE = 0.5
# ...the labels at most this, and a probe reads at most this of them.
LABEL_SHARE = 0.02
LABEL_SKILL = 0.3


def decide(evidence: Evidence) -> Judgement:
    """Return whether the finest labels were suppressed."""
    if not evidence.levels:
        return not_applicable("Labels are needed: what may be suppressed is unknown.")
    level = evidence.levels[0]
    if evidence.skill(level) is None:
        return undecided(f"No probe of {level!r} to judge by.")
    if evidence.has_reference:
        return _against_reference(evidence, level)
    if not evidence.attributes:
        return not_applicable(
            "A reference (pixels, an untrained encoder) or attributes that may compete "
            "with the labels are needed."
        )
    return _by_variance(evidence, level)


def _factor_keys(names: Sequence[str]) -> list[str]:
    return [f"linear_accuracy[{name}]" for name in names] + [
        f"variance_share[{name}]" for name in names
    ]


def _easiest(evidence: Evidence) -> tuple[str, float] | None:
    """Return the attribute that a probe reads best, with its skill."""
    skills = {name: evidence.skill(name) for name in evidence.attributes}
    known = {name: skill for name, skill in skills.items() if skill is not None}
    return max(known.items(), key=lambda item: item[1]) if known else None


def _accuracies(evidence: Evidence, level: str) -> str:
    pair = (
        evidence.value("linear_accuracy", level=level),
        evidence.value("linear_accuracy", level=level, layer="reference"),
    )
    own, theirs = ("unknown" if one is None else f"{one:.3f}" for one in pair)
    return f"(accuracy {own} against {theirs})"


def _against_reference(evidence: Evidence, level: str) -> Judgement:
    index = evidence.measurement("suppression_index", level=level)
    easiest = _easiest(evidence)
    shown = evidence.those(
        f"suppression_index[{level}]",
        f"linear_accuracy[{level}]",
        f"linear_accuracy[{level}]@reference",
        *_factor_keys([easiest[0]] if easiest else []),
    )
    reference = evidence.skill(level, layer="reference")
    if index is None or index.value is None or reference is None:
        return undecided("The reference gives no skill to compare with.", shown)
    gained = index.interval is not None and index.interval[1] <= 0
    if gained:
        return absent(
            f"A linear probe of {level!r} reads more than on the reference "
            f"{_accuracies(evidence, level)}.",
            shown,
        )
    if reference < REFERENCE_SKILL:
        return undecided(
            f"The reference itself hardly reads {level!r} (skill {reference:.2f}).",
            shown,
        )
    lost = (
        f"A linear probe of {level!r} has lost {index.value:.0%} of the skill it has "
        f"on the reference (skill {reference:.2f}: 0 is guessing, 1 perfect)"
    )
    certain = index.interval is not None and index.interval[0] > 0
    certain &= index.n >= MINIMUM_TEST_ROWS
    if index.value >= SUPPRESSION_FOUND and certain:
        return _lost(evidence, lost, shown)
    if index.value >= SUPPRESSION_FOUND:
        return undecided(f"{lost}, but the test rows are too few to be sure.", shown)
    if index.value <= 0:
        return absent(
            f"A linear probe of {level!r} reads no less than on the reference "
            f"{_accuracies(evidence, level)}.",
            shown,
        )
    return absent(f"{lost}: less than counts as suppression.", shown)


def _lost(evidence: Evidence, lost: str, shown: tuple[Measurement, ...]) -> Judgement:
    """Return whether something easy took the place of what was lost."""
    flatness = evidence.value("spectral_flatness")
    if flatness is not None and flatness >= FLATNESS_NOISE:
        return undecided(
            f"{lost}, but the features are as flat as noise ({flatness:.2f}, noise "
            "scores 1): nothing in them could have drowned it.",
            shown,
        )
    easiest = _easiest(evidence)
    if easiest is None:
        return _found(f"{lost}; what took its place is not known.", shown)
    if easiest[1] < FACTOR_SKILL:
        return undecided(
            f"{lost}, but none of the attributes is read well either ({easiest[0]!r} "
            f"best, with skill {easiest[1]:.2f}): what took its place is not among "
            "them.",
            shown,
        )
    return _found(
        f"{lost}, while {easiest[0]!r} is read with skill {easiest[1]:.2f}.", shown
    )


def _by_variance(evidence: Evidence, level: str) -> Judgement:
    shown = evidence.those(
        f"linear_accuracy[{level}]",
        f"variance_share[{level}]",
        *_factor_keys(evidence.attributes),
    )
    shares = [evidence.value("variance_share", level=a) for a in evidence.attributes]
    factors = sum(share for share in shares if share is not None)
    own = evidence.value("variance_share", level=level)
    skill = evidence.skill(level) or 0.0
    easiest = _easiest(evidence)
    told = (
        f"The attributes explain {min(factors, 1.0):.0%} of the variance, {level!r} "
        f"{0.0 if own is None else own:.1%}"
    )
    drowned = (
        easiest is not None
        and easiest[1] >= FACTOR_SKILL
        and factors >= FACTOR_SHARE
        and own is not None
        and own <= LABEL_SHARE
        and skill <= LABEL_SKILL
        and evidence.reads(level)  # else the images may not hold the labels at all
    )
    if drowned:
        return _found(
            f"{told}, and a linear probe reads {level!r} with skill {skill:.2f} only. "
            f"A "
            "reference would show how much of it the images hold.",
            shown,
        )
    if skill > LABEL_SKILL and factors < FACTOR_SHARE:
        return absent(f"{told}; a probe reads {level!r} (skill {skill:.2f}).", shown)
    return undecided(
        f"{told}. Whether more of {level!r} could have been learnt needs a reference: "
        "pixels or an untrained encoder.",
        shown,
    )


def _found(explanation: str, shown: tuple) -> Judgement:
    return Judgement(
        Status.FOUND,
        explanation,
        action="Make the augmentation destroy the easy factor, widen the embedding, "
        "or use "
        "the joint loss; then measure again against the same reference.",
        evidence=shown,
    )


CHECK = Check(
    code="RS202",
    title="feature suppression",
    severity="failure",
    needs="labels, and a reference or attributes",
    name="feature_suppression",
    remedies=("augment_away", "widen_embedding", "joint_loss"),
    decide=decide,
)
