"""What a run shows: curves and tables, as records."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope.records import Curve, Measurement, Scalar, Series, Status, Table
from repscope.representations.representation import Level

SPECTRUM = "spectrum"
HISTOGRAM_BINS = 40
# A spectrum is drawn at no more than this many ranks, evenly spread over their
# logarithm.
DRAWN_RANKS = 300
LISTED_CONFUSIONS = 20
LISTED_SAMPLES = 24
_LOWEST_READING: dict[Status | None, str] = {
    Status.FOUND: "A low Q-Score means that nothing stands out, and it predicts errors "
    "here (RS301): look at these images first.",
    Status.ABSENT: "Rows with the lowest Q-Score; on these features the score does not "
    "single out errors (RS301).",
    Status.UNDECIDED: "A low Q-Score means that nothing stands out; whether it singles "
    "out errors on these features is undecided (RS301).",
}


def _floats(values: Shaped[np.ndarray, " n"]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _n_positive(eigenvalues: Float[np.ndarray, " d"]) -> int:
    return int((eigenvalues > 1e-14 * eigenvalues[0]).sum())


def _shares_by_rank(
    eigenvalues: Float[np.ndarray, " d"],
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return some ranks, and the share of variance of each."""
    positive = _n_positive(eigenvalues)
    drawn = np.unique(np.geomspace(1, positive, DRAWN_RANKS).astype(int))
    return drawn, eigenvalues[drawn - 1] / eigenvalues.sum()


def spectrum_curve(
    eigenvalues: Float[np.ndarray, " d"], alpha: Measurement
) -> Curve | None:
    """Return eigenvalue shares by rank, with the fitted power law; None if all 0."""
    total = eigenvalues.sum()
    if not total > 0:
        return None
    positive = _n_positive(eigenvalues)
    drawn, shares = _shares_by_rank(eigenvalues)
    series = [Series(label="features", x=_floats(drawn), y=_floats(shares))]
    shaded = None
    how = "Each point is the share of variance along one principal component."
    if alpha.value is not None:
        first, last = (alpha.details[k] for k in ("first_rank", "last_rank"))
        intercept, r_squared = (
            alpha.details["log_intercept"],
            alpha.details["r_squared"],
        )
        ends = np.array([1.0, float(positive)])
        fitted = np.exp(float(str(intercept))) * ends**-alpha.value / total
        label = f"power law, α = {alpha.value:.2f}"
        series.append(
            Series(label=label, x=_floats(ends), y=_floats(fitted), style="dashed")
        )
        shaded = (float(str(first)), float(str(last)))
        how += (
            f" The dashed line is the power law fitted to the shaded ranks "
            f"{first}-{last} "
            f"(R² {float(str(r_squared)):.3f}). A line that falls off a cliff has "
            f"collapsed "
            "dimensions; a level one is noise or was whitened."
        )
    return Curve(
        name=SPECTRUM,
        title="Spectrum of the features",
        x_label="rank",
        y_label="share of variance",
        x_scale="log",
        y_scale="log",
        series=tuple(series),
        shaded=shaded,
        how_to_read=how,
    )


def histogram_curve(
    name: str,
    title: str,
    scores: Float[np.ndarray, " n"],
    correct: Float[np.ndarray, " n"] | None,
) -> Curve:
    """Return the distribution of a score; right and wrong rows apart where known.

    Args:
        name: of the curve.
        title: in words.
        scores: one per row.
        correct: 1 right, 0 wrong, NaN not tested; None without labels.
    """
    low, high = np.quantile(scores, [0.001, 0.999])
    if not high > low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    groups = [("all rows", np.ones(len(scores), dtype=bool))]
    if correct is not None and (correct == 0).any() and (correct == 1).any():
        groups = [("right", correct == 1), ("wrong", correct == 0)]
    series = []
    for label, chosen in groups:
        counts = np.histogram(np.clip(scores[chosen], low, high), edges)[0]
        share = counts / max(chosen.sum(), 1)
        text = f"{label} ({chosen.sum():,})"
        x, y = _floats(centres), _floats(share)
        alone = Series(label=text, x=x, y=y, style="bars")
        series.append(
            alone if len(groups) == 1 else dataclasses.replace(alone, style="step")
        )
    return Curve(
        name=name,
        title=f"Distribution of the {title}",
        x_label=title,
        y_label="share of rows",
        series=tuple(series),
        how_to_read="Right and wrong are the linear probe's answers on test rows; the "
        "further the two lie apart, the better the score predicts errors."
        if len(groups) == 2
        else "How many rows score how much; a group apart on the left is worth a look.",
    )


def class_table(
    level: Level,
    labels: Int[np.ndarray, " n"],
    predictions: Mapping[str, Int[np.ndarray, " n"]],
) -> Table:
    """Return the accuracy of each class for each probe, the worst first.

    Args:
        level: the label level.
        labels: of the test rows.
        predictions: probe -> predicted codes of the test rows.
    """
    probes = list(predictions)
    rows: list[tuple[Scalar, ...]] = []
    for code in np.unique(labels):
        own = labels == code
        accuracies = [float((predictions[p][own] == code).mean()) for p in probes]
        rows.append((level.classes[code], int(own.sum()), *accuracies))
    rows.sort(key=lambda row: (row[2], str(row[0])))
    return Table(
        name="class_accuracy",
        title=f"Accuracy by class of {level.name!r}",
        columns=("class", "test rows", *probes),
        rows=tuple(rows),
        how_to_read="Share of each class's test rows that a probe gets right; the "
        "worst "
        "classes come first.",
    )


def class_curve(table: Table) -> Curve:
    """Return the class accuracies of a table as sorted points, one series per probe."""
    columns = table.columns[2:]
    positions = tuple(float(k + 1) for k in range(len(table.rows)))
    series = tuple(
        Series(
            label=column,
            x=positions,
            y=tuple(float(str(row[2 + k])) for row in table.rows),
            style="points" if k else "line",
        )
        for k, column in enumerate(columns)
    )
    return Curve(
        name="class_accuracy",
        title="Accuracy by class, worst first",
        x_label="class, sorted by the accuracy of the linear probe",
        y_label="accuracy",
        series=series,
        how_to_read="Each position is one class; its name stands in the table of "
        "classes.",
    )


def confusion_table(
    level: Level, labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"]
) -> Table:
    """Return the most frequent confusions of a probe on test rows."""
    wrong = labels != predicted
    pairs = labels[wrong] * level.n_classes + predicted[wrong]
    kinds, counts = np.unique(pairs, return_counts=True)
    order = np.lexsort((kinds, -counts))[:LISTED_CONFUSIONS]
    sizes = np.bincount(labels, minlength=level.n_classes)
    rows: list[tuple[Scalar, ...]] = []
    for kind, count in zip(kinds[order], counts[order], strict=True):
        true, taken = divmod(int(kind), level.n_classes)
        share = float(count / sizes[true])
        rows.append((level.classes[true], level.classes[taken], int(count), share))
    return Table(
        name="confusions",
        title=f"Nearest confusions of {level.name!r}",
        columns=("true class", "taken for", "test rows", "share of the class"),
        rows=tuple(rows),
        how_to_read="What the linear probe mixes up most often.",
    )


def with_reference(curve: Curve, eigenvalues: Float[np.ndarray, " d"]) -> Curve:
    """Return a spectrum with that of the reference beside it; other curves as they are.

    Args:
        curve: any.
        eigenvalues: of the reference.
    """
    if curve.name != SPECTRUM or not eigenvalues.sum() > 0:
        return curve
    ranks, shares = _shares_by_rank(eigenvalues)
    beside = Series(label="reference", x=_floats(ranks), y=_floats(shares))
    return dataclasses.replace(curve, series=(*curve.series, beside))


def reference_table(measurements: Sequence[Measurement]) -> Table:
    """Return what was measured of features and reference alike, side by side."""
    others = {
        one.key.removesuffix("@reference"): one
        for one in measurements
        if one.layer == "reference"
    }
    rows: list[tuple[Scalar, ...]] = []
    for one in measurements:
        other = others.get(one.key)
        if other is None or one.value is None or other.value is None:
            continue
        rows.append((one.key, one.value, other.value, one.value - other.value))
    return Table(
        name="beside_reference",
        title="Beside the reference",
        columns=("measurement", "features", "reference", "difference"),
        rows=tuple(rows),
        how_to_read="The reference is another encoder's view of the same images. An "
        "encoder that reads labels no better than an untrained one learnt nothing that "
        "a linear probe sees.",
    )


def attribute_table(
    levels: Sequence[Level], measurements: Mapping[str, Measurement]
) -> Table:
    """Return how well each attribute is read and how much variance it explains."""
    rows: list[tuple[Scalar, ...]] = []
    for level in levels:
        accuracy = measurements.get(f"linear_accuracy[{level.name}]")
        share = measurements.get(f"variance_share[{level.name}]")
        skill = None if accuracy is None else accuracy.details.get("skill")
        rows.append(
            (
                level.name,
                level.n_classes,
                None if accuracy is None else accuracy.value,
                skill if isinstance(skill, float) else None,
                None if share is None else share.value,
            )
        )
    return Table(
        name="attributes",
        title="Factors that may compete with the labels",
        columns=("factor", "values", "linear accuracy", "skill", "share of variance"),
        rows=tuple(rows),
        how_to_read="A factor that explains much variance and is read with skill near "
        "1 is "
        "what the features are about.",
    )


def worst_table(
    rows: Sequence[int],
    columns: Mapping[str, Shaped[np.ndarray, " n"]],
    shown: Sequence[str],
    status: Status | None = None,
) -> Table:
    """Return the rows listed with some of their sample columns.

    Args:
        rows: positions in the columns, the worst first.
        columns: the sample columns.
        shown: the names of those to show.
        status: of RS301, which says whether a low score means anything.
    """
    names = [name for name in shown if name in columns]
    cells = tuple(
        tuple(_cell(columns[name][row]) for name in names)
        for row in list(rows)[:LISTED_SAMPLES]
    )
    return Table(
        name="worst_samples",
        title="Rows with the lowest Q-Score",
        columns=tuple(name.replace("_", " ") for name in names),
        rows=cells,
        how_to_read=_LOWEST_READING.get(status, _LOWEST_READING[Status.UNDECIDED]),
    )


def _cell(value: object) -> Scalar:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        return plain if np.isfinite(plain) else None
    return plain if isinstance(plain, str | int | bool) else str(plain)


def split_table(is_test: Bool[np.ndarray, " n"], levels: Sequence[Level]) -> Table:
    """Return how many rows and classes each split has."""
    rows: list[tuple[Scalar, ...]] = []
    for name, chosen in (("train", ~is_test), ("test", is_test)):
        classes = [len(np.unique(level.codes[chosen])) for level in levels]
        rows.append((name, int(chosen.sum()), *classes))
    return Table(
        name="splits",
        title="Splits",
        columns=("split", "rows", *[f"classes of {level.name}" for level in levels]),
        rows=tuple(rows),
    )
