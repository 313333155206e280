"""RS201: are classes told apart but the subclasses within them not?

A low score on subclasses may only mean that the images hardly differ: the class itself
must have been learnt, the centres must coincide, and a reference of the same images
must tell the subclasses apart.
"""

from repscope.diagnosis.check import (
    Check,
    Evidence,
    Judgement,
    absent,
    not_applicable,
    undecided,
)
from repscope.records import Measurement, Status

# The class must be read at least this well before its subclasses can have collapsed
# into it.
CLASS_SKILL = 0.5
# Subclass given class: at chance below, plainly there above.
SUBCLASS_SKILL_COLLAPSED = 0.2
SUBCLASS_SKILL_PRESENT = 0.5
# Distance of subclass centres relative to class centres, noise floor removed.
INDEX_COLLAPSED = 0.1
# A reference that reads the subclasses better by this much shows that they were there.
REFERENCE_GAIN = 0.2


def decide(evidence: Evidence) -> Judgement:
    """Return whether subclasses have merged, for the finest pair of levels."""
    if len(evidence.levels) < 2:
        return not_applicable("Two label levels are needed, fine and coarse.")
    fine, coarse = evidence.levels[0], evidence.levels[1]
    shown = evidence.those(
        f"linear_accuracy[{coarse}]",
        f"subclass_given_class[{fine}]",
        f"class_collapse_index[{fine}]",
        f"subclass_given_class[{fine}]@reference",
    )
    subclass = evidence.detail("subclass_given_class", "skill", level=fine)
    index = _lower_end(evidence.measurement("class_collapse_index", level=fine))
    class_skill = evidence.skill(coarse)
    if subclass is None or class_skill is None:
        measured = evidence.measurement("subclass_given_class", level=fine)
        reason = measured.reason if measured else "not measured"
        return undecided(f"Subclasses cannot be probed: {reason}.", shown)
    told = (
        f"Within their {coarse!r} class a linear probe tells {fine!r} classes apart "
        f"with "
        f"skill {subclass:.2f} (0 is guessing)"
    )
    if subclass >= SUBCLASS_SKILL_PRESENT:
        return absent(f"{told}.", shown)
    apart = index is not None and index > INDEX_COLLAPSED
    if subclass > SUBCLASS_SKILL_COLLAPSED and apart:
        return absent(
            f"{told}, and their centres lie at least {index:.2f} of a class distance "
            "apart: both say that they have not merged.",
            shown,
        )
    if class_skill < CLASS_SKILL:
        return undecided(
            f"{told}, but the classes themselves are hardly read either (skill "
            f"{class_skill:.2f}).",
            shown,
        )
    if subclass <= SUBCLASS_SKILL_COLLAPSED and index is not None:
        return _low_subclass(evidence, fine, told, index, shown)
    return undecided(f"{told}: some of it is left.", shown)


def _lower_end(index: Measurement | None) -> float | None:
    """Return the lower end of the interval: few rows leave the index itself noisy."""
    if index is None or index.value is None:
        return None
    return index.interval[0] if index.interval else index.value


def _low_subclass(
    evidence: Evidence, fine: str, told: str, index: float, shown: tuple
) -> Judgement:
    reference = evidence.detail(
        "subclass_given_class", "skill", level=fine, layer="reference"
    )
    own = evidence.detail("subclass_given_class", "skill", level=fine) or 0.0
    if reference is not None and reference < own + REFERENCE_GAIN:
        return undecided(
            f"{told}. The reference does no better ({reference:.2f}): the images "
            "themselves may not tell them apart.",
            shown,
        )
    centres = evidence.value("class_collapse_index", level=fine) or 0.0
    if index > INDEX_COLLAPSED:
        return undecided(
            f"{told}, although their centres lie {index:.2f} of a class distance "
            f"apart.",
            shown,
        )
    seen = f"{told}, and their centres lie {centres:.2f} of a class distance apart"
    if reference is None:
        return undecided(
            f"{seen}. Subclasses that the images hardly tell apart look the same: a "
            "reference (pixels, an untrained encoder) would decide.",
            shown,
        )
    return Judgement(
        Status.FOUND,
        f"{seen}; the reference tells them apart with skill {reference:.2f}.",
        action="Add a self-supervised term to the supervised loss (the joint loss) so "
        "that "
        "images of one class are kept apart; measure again at both levels.",
        evidence=shown,
    )


CHECK = Check(
    code="RS201",
    title="class collapse",
    severity="failure",
    needs="two label levels, fine and coarse, and a reference",
    name="class_collapse",
    remedies=("joint_loss",),
    decide=decide,
)
