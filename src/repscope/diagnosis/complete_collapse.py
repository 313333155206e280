"""RS101: does every image get nearly the same vector?

A small dispersion alone is no collapse: untrained networks reach .07 because of a
common offset, and differences of that size still carry labels.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Status

# Controls (pixels, projections, trained and untrained networks) lie above .07.
DISPERSION_COLLAPSED = 0.01
# Below this, what varies is of the size of rounding in half precision.
DISPERSION_CONSTANT = 1e-3
# A linear probe with less skill than this finds nothing in what still varies.
SKILL_NONE = 0.2


def decide(evidence: Evidence) -> Judgement:
    """Return whether the features have collapsed to one point."""
    dispersion = evidence.value("relative_dispersion")
    dead = evidence.value("dead_features")
    shown = evidence.those("relative_dispersion", "dead_features")
    if dispersion is None:
        measured = evidence.measurement("relative_dispersion")
        reason = measured.reason if measured and measured.reason else "not measured"
        if reason == "all features are zero":
            return _found("Every feature of every row is zero.", shown)
        return undecided(f"The dispersion cannot be measured: {reason}.", shown)
    if dead == 1:
        return _found("No feature varies: every row is the same vector.", shown)
    if dispersion >= DISPERSION_COLLAPSED:
        return absent(
            f"Rows differ: {dispersion:.0%} of their length (root mean square) is "
            "variation.",
            shown,
        )
    return _nearly_constant(evidence, dispersion)


def _nearly_constant(evidence: Evidence, dispersion: float) -> Judgement:
    keys = [f"linear_accuracy[{level}]" for level in evidence.levels]
    shown = evidence.those("relative_dispersion", "dead_features", *keys)
    skills = [evidence.skill(level) for level in evidence.levels]
    known = [skill for skill in skills if skill is not None]
    share = f"Only {dispersion:.1e} of the rows' length is variation"
    reads = any(evidence.reads(level) for level in evidence.levels)
    if known and (reads or max(known) >= SKILL_NONE):
        return undecided(
            f"{share}, yet a linear probe still reads labels from it (skill "
            f"{max(known):.2f}). Subtract the mean before using these features.",
            shown,
        )
    if known or dispersion < DISPERSION_CONSTANT:
        tail = " and a linear probe finds no label in it" if known else ""
        return _found(f"{share}{tail}.", shown)
    return undecided(f"{share}. Labels would show whether it still carries any.", shown)


def _found(explanation: str, shown: tuple) -> Judgement:
    return Judgement(
        Status.FOUND,
        explanation,
        action="Train again with what keeps views of different images apart: "
        "negatives, a "
        "variance term, or the predictor and stop-gradient that the method relies on; "
        "check that the checkpoint really loaded.",
        evidence=shown,
    )


CHECK = Check(
    code="RS101",
    title="complete collapse",
    severity="failure",
    needs="features; labels decide borderline cases",
    name="complete_collapse",
    remedies=("restore_repulsion", "check_checkpoint"),
    decide=decide,
)
