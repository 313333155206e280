"""RS103: is the spectrum as flat as noise, and is there nothing in it?

Whitened features are as flat and perfectly sound, so that a flat spectrum is found to
be a failure only where labels were given and no probe reads them.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Status

# Isotropic noise scores 1 for any n and d; controls that were not whitened stay below
# .58.
FLATNESS_NOISE = 0.8
# A probe with this skill reads the labels; below the other, it reads nothing worth
# having.
SKILL_READS = 0.5
SKILL_NONE = 0.2
# With fewer rows no probe can read whitened features.
MINIMUM_ROWS_PER_FEATURE = 2


def decide(evidence: Evidence) -> Judgement:
    """Return whether the features are isotropic noise."""
    flatness = evidence.value("spectral_flatness")
    keys = [f"linear_accuracy[{level}]" for level in evidence.levels]
    keys += [f"knn_accuracy[{level}]" for level in evidence.levels]
    shown = evidence.those("spectral_flatness", "alpha", *keys)
    if flatness is None:
        return undecided("The spectrum cannot be measured.", shown)
    if flatness < FLATNESS_NOISE:
        return absent(
            f"The spectrum is not flat: {flatness:.2f}, where noise scores 1.", shown
        )
    skills = [evidence.skill(level) for level in evidence.levels]
    known = [skill for skill in skills if skill is not None]
    flat = f"The spectrum is as flat as that of noise ({flatness:.2f}, noise scores 1)"
    if not known:
        return undecided(
            f"{flat}. Whitened features look the same and are sound; labels would "
            f"decide.",
            shown,
        )
    if max(known) >= SKILL_READS:
        return absent(
            f"{flat}, but a linear probe reads the labels (skill {max(known):.2f}): "
            f"the "
            "features were whitened, not emptied.",
            shown,
        )
    reads = any(evidence.reads(level) for level in evidence.levels)
    if reads or max(known) >= SKILL_NONE:
        return undecided(
            f"{flat}, and a linear probe reads little, yet more than guessing (skill "
            f"{max(known):.2f}): whitened features and hard labels look the same.",
            shown,
        )
    measured = evidence.measurement("spectral_flatness")
    if measured and measured.n <= MINIMUM_ROWS_PER_FEATURE * (measured.d or 0):
        return undecided(
            f"{flat}, and a linear probe reads no label from it, but {measured.n:,} "
            f"rows "
            f"of {measured.d:,} features are too few: once whitened they lie equally "
            f"far "
            "apart, whatever they hold.",
            shown,
        )
    return Judgement(
        Status.FOUND,
        f"{flat}, and a linear probe reads no label from it (skill {max(known):.2f}).",
        action="Check first that rows and labels belong together and that weights were "
        "loaded; then lower what decorrelates features or raise what makes views "
        "agree.",
        evidence=shown,
    )


CHECK = Check(
    code="RS103",
    title="flat spectrum",
    severity="warning",
    needs="features and labels",
    name="flat_spectrum",
    remedies=("lower_decorrelation", "check_row_order"),
    decide=decide,
)
