"""RS301: which images have a poor representation, and does that predict errors?

Every set of images has a lowest tenth. It is a finding only where the score, with
labels, predicts the errors of a probe; without labels the list is offered and the
question left open.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Measurement, Status

# The Q-Score predicts errors if even the lower end of its AUROC's interval reaches
# this...
AUROC_PREDICTS = 0.6
# ...and the lowest tenth errs this many times as often as all, beyond chance.
ERROR_RATIO = 1.5
# With fewer errors than this nothing can be said about them.
MINIMUM_ERRORS = 10
# Share of rows far below the bulk that is worth a look without labels.
OUTLIER_SHARE = 0.01


def decide(evidence: Evidence) -> Judgement:
    """Return whether low scores mark the images that will be got wrong."""
    level = evidence.levels[0] if evidence.levels else None
    keys = ["q_score", "low_score_share"]
    if level:
        keys += [f"auroc[{level}]", f"error_ratio_lowest[{level}]"]
        keys += [f"auprc_error[{level}]", f"linear_accuracy[{level}]"]
    shown = evidence.those(*keys)
    if evidence.value("q_score") is None:
        return undecided("The scores cannot be computed.", shown)
    if level is None:
        return _without_labels(evidence, shown)
    area = evidence.measurement("auroc", level=level)
    ratio = evidence.measurement("error_ratio_lowest", level=level)
    if area is None or area.value is None or ratio is None or ratio.value is None:
        reason = area.reason if area is not None and area.reason else "not measured"
        return undecided(f"Whether the score predicts errors is open: {reason}.", shown)
    errors = evidence.detail("auroc", "n_error", level=level) or 0
    if errors < MINIMUM_ERRORS:
        return undecided(
            f"The probe of {level!r} makes {errors:.0f} errors only; "
            f"{MINIMUM_ERRORS} are needed to see what predicts them.",
            shown,
        )
    return _with_errors(evidence, level, area, ratio, shown)


def _with_errors(
    evidence: Evidence,
    level: str,
    area: Measurement,
    ratio: Measurement,
    shown: tuple[Measurement, ...],
) -> Judgement:
    told = (
        f"A low Q-Score predicts the errors of the {level!r} probe with AUROC "
        f"{area.value:.2f}; the lowest tenth errs {ratio.value:.1f} times as often as "
        f"all"
    )
    low = area.interval[0] if area.interval else 0.0
    beyond_chance = ratio.interval is not None and ratio.interval[0] > 1
    predicts = low >= AUROC_PREDICTS and (ratio.value or 0) >= ERROR_RATIO
    if predicts and beyond_chance and evidence.is_negative:
        return Judgement(
            Status.UNDECIDED,
            f"{told}. Yet the score was made for features that are not negative, and "
            "some of these are: measure again after a rectifier.",
            evidence=shown,
            rows=evidence.lowest_rows,
        )
    if predicts and beyond_chance:
        return Judgement(
            Status.FOUND,
            f"{told}.",
            action="Look at the listed images first: repair or drop what is broken, "
            "and "
            "consider the Q-Score regulariser for the rest.",
            evidence=shown,
            rows=evidence.lowest_rows,
        )
    return absent(f"{told}: not enough to single images out.", shown)


def _without_labels(evidence: Evidence, shown: tuple[Measurement, ...]) -> Judgement:
    measured = evidence.measurement("low_score_share")
    if measured is None or measured.value is None:
        reason = measured.reason if measured else "not measured"
        return undecided(f"Whether rows stand apart is open: {reason}.", shown)
    threshold = evidence.detail("low_score_share", "threshold")
    if threshold is not None and threshold <= 0:
        return undecided(
            "Scores spread so widely that even a score of 0 would not stand apart. "
            "Labels would show whether low ones are got wrong.",
            shown,
        )
    share = measured.value
    if share >= OUTLIER_SHARE:
        return Judgement(
            Status.UNDECIDED,
            f"{share:.1%} of the rows score far below the rest. Labels would show "
            f"whether "
            "they are got wrong; the lowest are listed.",
            evidence=shown,
            rows=evidence.lowest_rows,
        )
    return absent("No group of rows scores far below the rest.", shown)


CHECK = Check(
    code="RS301",
    title="low-quality samples",
    severity="warning",
    needs="features, none negative; labels say whether low scores predict errors",
    name="low_quality_samples",
    remedies=("inspect_samples", "q_score_regulariser"),
    decide=decide,
)
