"""How well scores predict errors, as a table and as curves."""

from collections.abc import Mapping

from repscope.metrics import failure
from repscope.metrics.metric import Estimate
from repscope.records import Curve, Scalar, Series, Table


def prediction_table(predictions: Mapping[str, failure.FailurePrediction]) -> Table:
    """Return one row per score: AUROC and average precisions with their base rates."""
    rows: list[tuple[Scalar, ...]] = []
    for name, one in predictions.items():
        low, high = one.area.interval or (None, None)
        rows.append(
            (
                name,
                "high" if one.sign > 0 else "low",
                one.area.value,
                low,
                high,
                _number(one.area, "oriented"),
                one.correct.value,
                _number(one.correct, "base_rate"),
                _number(one.correct, "lift"),
                one.error.value,
                _number(one.error, "base_rate"),
                _number(one.error, "lift"),
            )
        )
    return Table(
        name="failure_prediction",
        title="What predicts the probe's errors",
        columns=(
            "score",
            "declared good",
            "AUROC",
            "from",
            "to",
            "oriented",
            "AP right",
            "accuracy",
            "lift",
            "AP errors",
            "error rate",
            "lift of errors",
        ),
        rows=tuple(rows),
        how_to_read="AUROC .5 is guessing; below it the score points the other way, "
        "which "
        "the oriented column folds back. AP is average precision: read it as the lift "
        "above its base rate.",
    )


def _number(estimate: Estimate, key: str) -> float:
    return float(str(estimate.details[key]))


def prediction_curves(
    predictions: Mapping[str, failure.FailurePrediction],
) -> list[Curve]:
    """Return the ROC curves for right answers and the precision-recall of errors."""
    roc, recall_precision = [], []
    for name, one in predictions.items():
        x, y = failure.roc_points(one.scores, one.right)
        label = f"{name} ({one.area.value:.2f})"
        roc.append(Series(label=label, x=tuple(x.tolist()), y=tuple(y.tolist())))
        recall, precision = failure.precision_recall_points(-one.scores, ~one.right)
        recall_precision.append(
            Series(
                label=f"{name} ({one.error.value:.2f})",
                x=tuple(recall.tolist()),
                y=tuple(precision.tolist()),
            )
        )
    base = float((~next(iter(predictions.values())).right).mean())
    chance = Series(label="guessing", x=(0.0, 1.0), y=(0.0, 1.0), style="dashed")
    level = Series(label="error rate", x=(0.0, 1.0), y=(base, base), style="dashed")
    return [
        Curve(
            name="roc",
            title="Right answers by score",
            x_label="share of wrong rows above the threshold",
            y_label="share of right rows above",
            series=(*roc, chance),
            how_to_read="In brackets the AUROC for the declared sign; a curve below "
            "the "
            "diagonal points the other way.",
        ),
        Curve(
            name="precision_recall",
            title="Errors by score",
            x_label="share of errors found",
            y_label="share of errors among those picked",
            series=(*recall_precision, level),
            how_to_read="Rows are picked from the lowest score up; the dashed line is "
            "what "
            "picking blindly gives.",
        ),
    ]
