"""What the tests of checks share: evidence made by hand, planted features diagnosed.

Evidence made by hand meets a threshold exactly or misses it by a hair; diagnoses of
planted features are computed once per test run.
"""

import functools
from collections.abc import Callable

from repscope.diagnosis.check import Evidence, Repeat
from repscope.diagnosis.diagnose import diagnose
from repscope.records import Detail, Finding, Measurement, Status
from repscope.report.report import Report
from repscope.theory import planted
from repscope.theory.planted import Planted

FOUND, ABSENT, UNDECIDED = Status.FOUND, Status.ABSENT, Status.UNDECIDED
NOT_APPLICABLE = Status.NOT_APPLICABLE
# Less than any threshold's distance to the next, more than rounding.
HAIR = 1e-9

# Rows, dimensions, seed.
SMALL_SIZES = ((400, 32, 0), (1000, 64, 1))
LARGER_SIZES = ((1000, 64, 0), (1000, 64, 1), (2000, 128, 0))
SIZES = ((400, 32, 0), (400, 32, 1), (1000, 64, 1), (2000, 128, 0))

DAMAGES: dict[str, Callable[[Planted, int], Planted]] = {
    "sound": lambda one, seed: one,
    "whitened": lambda one, seed: planted.whitened(one),
    "complete collapse": lambda one, seed: planted.complete_collapse(one, seed=seed),
    "rank 1": lambda one, seed: planted.dimensional_collapse(one, 1),
    "rank 3": lambda one, seed: planted.dimensional_collapse(one, 3),
    "rank 3, leaking": lambda one, seed: planted.dimensional_collapse(
        one, 3, leak=0.01
    ),
    "noise": lambda one, seed: planted.isotropic_noise(one, seed=seed),
    "class collapse": lambda one, seed: planted.class_collapse(one, seed=seed),
    "suppression": lambda one, seed: planted.feature_suppression(one, seed=seed),
    "low quality": lambda one, seed: planted.low_quality_samples(one, seed=seed),
    "1 shared": lambda one, seed: planted.shared_features(one, count=1),
    "3 shared": lambda one, seed: planted.shared_features(one, count=3),
    "duplicates": lambda one, seed: planted.duplicates(one),
}


def measured(
    name: str,
    value: float | None,
    *,
    level: str | None = None,
    layer: str = "features",
    n: int = 1000,
    d: int | None = 64,
    interval: tuple[float, float] | None = None,
    reason: str | None = None,
    **details: Detail,
) -> Measurement:
    """Return a measurement; without a value, `reason` says why."""
    return Measurement(
        name=name,
        value=value,
        reason=reason,
        interval=interval,
        n=n,
        d=d,
        level=level,
        layer=layer,
        details=details,
    )


def probed(
    skill: float,
    *,
    level: str = "fine",
    layer: str = "features",
    n_classes: int = 10,
) -> Measurement:
    """Return a linear probe over a majority of a tenth, with an interval of .1."""
    accuracy = 0.1 + 0.9 * skill
    return measured(
        "linear_accuracy",
        accuracy,
        level=level,
        layer=layer,
        interval=(accuracy - 0.1, accuracy + 0.1),
        skill=skill,
        majority=0.1,
        n_classes=n_classes,
    )


def gathered(
    *measurements: Measurement,
    levels: tuple[str, ...] = (),
    attributes: tuple[str, ...] = (),
    has_reference: bool = False,
    is_negative: bool = False,
) -> Evidence:
    """Return measurements as evidence; rows 7, 8, 9 score lowest, 5 and 6 repeat 2."""
    return Evidence(
        measurements={one.key: one for one in measurements},
        levels=levels,
        attributes=attributes,
        has_reference=has_reference,
        is_negative=is_negative,
        lowest_rows=(7, 8, 9),
        repeats=(Repeat(5, 2), Repeat(6, 2, is_relabelled=True)),
        n_relabelled=1,
    )


@functools.cache
def sound(n: int, d: int, seed: int) -> Planted:
    """Return sound features with labels "fine" and "coarse"."""
    return planted.sound(n, d, seed=seed)


@functools.cache
def damaged(damage: str, n: int, d: int, seed: int) -> Planted:
    """Return sound features with one of `DAMAGES`."""
    return DAMAGES[damage](sound(n, d, seed), seed)


@functools.cache
def diagnosed(
    damage: str,
    n: int,
    d: int,
    seed: int,
    *,
    labelled: bool = True,
    referenced: bool = False,
) -> Report:
    """Return the diagnosis of damaged features.

    Args:
        damage: one of `DAMAGES`.
        n: rows.
        d: dimensions.
        seed: of features and damage.
        labelled: with labels and attributes.
        referenced: with the sound features as the reference.
    """
    one = damaged(damage, n, d, seed)
    return diagnose(
        one.features,
        labels=one.labels if labelled else None,
        attributes=one.attributes if labelled else None,
        reference=sound(n, d, seed).features if referenced else None,
    )


def finding_of(report: Report, code: str) -> Finding:
    """Return what one check says in a report."""
    return next(finding for finding in report.findings if finding.code == code)
