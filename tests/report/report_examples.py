"""A run such as diagnose would give: every kind of record, numbers made up here."""

import base64
import io

import numpy as np

from repscope.records import (
    Curve,
    Finding,
    Formula,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Series,
    Status,
    Table,
    Thumbnail,
    Verdict,
)

PROBES = ("linear", "ridge", "knn", "ncc")
CLASSES = ("cat", "dog", "deer", "frog", "horse", "ship", "truck", "plane", "bird")


def example_samples(n, seed=0, classes=CLASSES, ids="images/val/{:06d}.png"):
    generator = np.random.default_rng(seed)
    fine = generator.integers(len(classes), size=n)
    angle = 2 * np.pi * fine / len(classes)
    centres = 4 * np.column_stack([np.cos(angle), np.sin(angle)])
    places = centres + generator.normal(size=(n, 2)) * (1 + fine[:, None] / 9)
    quality = np.exp(generator.normal(-3, 0.5, n))
    is_test = generator.random(n) < 0.2
    predicted = np.where(
        generator.random(n) < 0.8, fine, generator.integers(len(classes), size=n)
    )
    names = np.array(classes)
    columns = {
        "row": np.arange(n),
        "id": np.array([ids.format(row) for row in range(n)]),
        "label:fine": names[fine],
        "label:coarse": np.where(fine < 5, "animal", "thing"),
        "split": np.where(is_test, "test", "train"),
        "z_max": generator.normal(6, 1, n),
        "q_score": quality,
        "q_score_normalized": quality * 40,
        "l1_norm": generator.normal(120, 20, n),
        "feature_mean": generator.normal(0.4, 0.1, n),
        "feature_std": generator.normal(0.8, 0.1, n),
        "soft_sparsity": generator.random(n),
        "gini": generator.random(n),
        "hoyer": generator.random(n),
        "map_x": np.where(generator.random(n) < 0.02, np.nan, places[:, 0]),
        "map_y": places[:, 1],
        "predicted:fine": np.where(is_test, names[predicted], ""),
    }
    for probe in PROBES:
        right = (predicted == fine) ^ (generator.random(n) < 0.05)
        columns[f"correct:fine:{probe}"] = np.where(is_test, right, np.nan)
    columns["listed"] = (quality < np.quantile(quality, 0.05)).astype(np.int64)
    return Samples(columns=columns)


def _measurement(name, value, **rest):
    rest.setdefault("formula", name)
    rest.setdefault(
        "reason", "fewer than 8 samples per class" if value is None else None
    )
    return Measurement(name=name, value=value, n=10_000, d=512, **rest)


def _measurements():
    share = (0.0, 1.0)
    accuracy = {"range": share, "direction": "higher", "split": "test"}
    return (
        _measurement(
            "effective_rank",
            23.41,
            interval=(22.9, 24.1),
            range=(1.0, 512.0),
            direction="higher",
            replicates=(23.1, 23.9),
        ),
        _measurement(
            "alpha",
            2.316,
            interval=(2.21, 2.43),
            range=(None, None),
            direction="target",
            target=1.0,
            details={"first_rank": 11, "last_rank": 50, "r_squared": 0.981},
        ),
        _measurement("rankme", 31.02, range=(1.0, 512.0), direction="higher"),
        _measurement("dead_features", 0.0, range=share, direction="lower"),
        _measurement(
            "linear_accuracy", 0.7132, interval=(0.69, 0.735), level="fine", **accuracy
        ),
        _measurement(
            "linear_accuracy",
            0.9541,
            interval=(0.944, 0.963),
            level="coarse",
            **accuracy,
        ),
        _measurement(
            "ncc_accuracy", 0.6418, interval=(0.62, 0.66), level="fine", **accuracy
        ),
        _measurement("cdnv", 3.217, range=(0.0, None), direction="lower", level="fine"),
        _measurement(
            "auroc",
            0.6903,
            interval=(0.664, 0.716),
            level="fine",
            details={"score": "q_score", "base_rate": 0.287, "declared_sign": "+"},
            **accuracy,
        ),
        _measurement("feature_accuracy", None, range=share, level="background"),
        _measurement("trustworthiness", 0.874, range=share, direction="higher"),
    )


def _findings(measurements):
    by_name = {one.key: one for one in measurements}
    return (
        Finding(
            code="RS102",
            title="Dimensional collapse",
            status=Status.FOUND,
            severity="failure",
            explanation="The features fill about 23 of 512 dimensions, and the "
            "spectrum falls faster (alpha 2.3) than that of the raw pixels (1.4). Most "
            "of the embedding carries nothing that a linear reader could use.",
            action="Raise the weight of the variance or decorrelation term, or train "
            "with a wider projection head, then diagnose again.",
            evidence=(by_name["effective_rank"], by_name["alpha"]),
            remedies=("variance_weight", "wider_head"),
            page="docs/failures/dimensional_collapse.md",
        ),
        Finding(
            code="RS301",
            title="Low-quality samples",
            status=Status.FOUND,
            severity="warning",
            explanation="520 samples have a Q-Score far below the rest. On the test "
            "split the score ranks the probe's errors with an AUROC of 0.69.",
            action="Look at the listed samples first: mislabelled, blurred or cropped "
            "images belong out of the evaluation or into the augmentation.",
            evidence=(by_name["auroc[fine]"],),
            rows=tuple(range(40)),
            page="https://example.org/failures/low_quality_samples",
        ),
        Finding(
            code="RS202",
            title="Feature suppression",
            status=Status.UNDECIDED,
            severity="failure",
            explanation="Labels and features alone cannot tell a suppressed factor "
            "from a hard one. Pass reference features (raw pixels will do) to decide.",
            evidence=(by_name["feature_accuracy[background]"],),
        ),
        Finding(
            code="RS101",
            title="Complete collapse",
            status=Status.ABSENT,
            severity="failure",
            explanation="The features vary in every dimension.",
            evidence=(by_name["dead_features"],),
        ),
        Finding(
            code="RS201",
            title="Class collapse",
            status=Status.NOT_APPLICABLE,
            severity="failure",
            explanation="The coarse level has only two classes.",
        ),
    )


def _curves():
    ranks = np.arange(1, 129.0)
    values = np.exp(-2.3 * np.log(ranks)) * np.exp(np.sin(ranks / 9) * 0.05)
    fitted = np.array([11.0, 50.0])
    bins = np.linspace(0.0, 0.2, 31)
    right = 900 * np.exp(-(((bins - 0.07) / 0.03) ** 2))
    wrong = 350 * np.exp(-(((bins - 0.05) / 0.02) ** 2))
    rates = np.linspace(0.0, 1.0, 101)
    return (
        Curve(
            name="spectrum",
            title="Eigenvalue spectrum",
            x_label="rank",
            y_label="eigenvalue / largest",
            x_scale="log",
            y_scale="log",
            shaded=(11.0, 50.0),
            series=(
                _series("eigenvalues", ranks, values, "points"),
                _series("power law, alpha 2.32", fitted, fitted**-2.3, "dashed"),
            ),
            how_to_read="A straight line is a power law. The steeper it falls, the "
            "fewer directions hold the variance. The fit uses the shaded ranks only.",
        ),
        Curve(
            name="score_q_score",
            title="Q-Score of right and wrong predictions",
            x_label="Q-Score",
            y_label="samples",
            series=(
                _series("right", bins, right, "bars"),
                _series("wrong", bins, wrong, "bars"),
            ),
            how_to_read="The further apart the two hills, the better the score "
            "predicts errors without labels.",
        ),
        Curve(
            name="roc",
            title="Q-Score as a predictor of errors",
            x_label="false positive rate",
            y_label="true positive rate",
            series=(
                _series("Q-Score, 0.69", rates, rates**0.45, "line"),
                _series("z max, 0.61", rates, rates**0.65, "line"),
                _series("chance", rates[[0, -1]], rates[[0, -1]], "dashed"),
            ),
            how_to_read="The diagonal is guessing; the area under a curve is its AUROC",
        ),
        Curve(
            name="class_accuracy",
            title="Accuracy by class",
            x_label="class, worst first",
            y_label="accuracy",
            series=(
                _series("linear", np.arange(9.0), 0.5 + np.arange(9) / 20, "bars"),
            ),
        ),
    )


def _series(label, x, y, style):
    return Series(
        label=label, x=tuple(map(float, x)), y=tuple(map(float, y)), style=style
    )


def _tables():
    return (
        Table(
            name="class_accuracy",
            title="Accuracy by class",
            columns=("class", "n", "linear", "kNN"),
            rows=tuple(
                (name, 1_100 + 7 * place, 0.5 + place / 20, 0.45 + place / 20)
                for place, name in enumerate(CLASSES)
            ),
        ),
        Table(
            name="confusions",
            title="Nearest confusions",
            columns=("true", "taken for", "share", "n"),
            rows=(("cat", "dog", 0.181, 41), ("truck", "ship", 0.093, None)),
            how_to_read="The pairs that the linear probe mixes up most often.",
        ),
        Table(
            name="splits",
            title="Splits",
            columns=("split", "rows", "given"),
            rows=(("train", 8_000, False), ("test", 2_000, False)),
        ),
    )


def _thumbnails(rows, seed=0):
    from PIL import Image

    generator = np.random.default_rng(seed)
    thumbnails = []
    for row in rows:
        coarse = Image.fromarray(generator.integers(0, 255, (6, 6, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "PNG")
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        address = f"data:image/png;base64,{text}"
        thumbnails.append(Thumbnail(row=row, address=address, width=32, height=32))
    return tuple(thumbnails)


def _glossary():
    return tuple(
        Formula(
            id=name,
            title=title,
            formula=formula,
            range="1 to min(n - 1, d)" if "rank" in name else "0 to 1",
            direction="higher",
            source="Roy, Vetterli 2007, Eq. 3",
            misleads="n is below d, or rows repeat.",
        )
        for name, title, formula in (
            ("effective_rank", "Effective rank", "exp(-sum p log p), p = s / sum s"),
            ("alpha", "Spectral decay", "slope of -log(eigenvalue) on log(rank)"),
            ("rankme", "RankMe", "exp(-sum p log p), p = s / sum s + 1e-7"),
            ("dead_features", "Dead features", "share of features with std < 1e-8"),
            ("linear_accuracy", "Linear probe", "share of right predictions"),
            (
                "ncc_accuracy",
                "Nearest class centre",
                "share nearest to their own centre",
            ),
            ("cdnv", "CDNV", "mean (v_i + v_j) / (2 |m_i - m_j|^2)"),
            ("auroc", "AUROC", "P(score of a right one > score of a wrong one)"),
            ("trustworthiness", "Trustworthiness", "1 - penalty of false neighbours"),
        )
    )


def example_record(samples, **changes):
    measurements = _measurements()
    values = {
        "kind": "diagnosis",
        "title": "simclr-resnet18, epoch 200",
        "verdict": Verdict(
            word="COLLAPSED",
            sentence="Dimensional collapse: the features fill 23 of 512 dimensions.",
        ),
        "provenance": Provenance(
            command="repscope diagnose features.npy --labels labels.csv -o out",
            created="2026-11-21 10:12 UTC",
            seconds=12.4,
            n=len(samples),
            d=512,
            dtype="float32",
            features_fingerprint="9b1c2d3e4f506172",
            labels_fingerprints={"fine": "00aa11bb22cc33dd"},
            split_rule="80/20 by a hash of the id, stratified, duplicates on one side",
            inputs={"features": "features.npy", "labels": "labels.csv"},
            versions={"repscope": "0.1.0", "numpy": "2.4.6"},
            machine={"processor": "x86_64, 2 cores"},
        ),
        "measurements": measurements,
        "findings": _findings(measurements),
        "curves": _curves(),
        "tables": _tables(),
        "thumbnails": _thumbnails(range(12)),
        "glossary": _glossary(),
        "notices": (
            "12 rows held NaN and were dropped.",
            "3.1 % of the rows are duplicates, kept on one side of the split.",
        ),
        "next_commands": ("repscope compare out other-out", "repscope ls checks"),
    }
    return RunRecord(**(values | changes))


def example_comparison():
    rows = (
        ("effective_rank", 180.4, 23.4, -157.0, "-158 to -155", "worse"),
        ("linear_accuracy[fine]", 0.75, 0.71, -0.04, "-0.06 to -0.02", "worse"),
        ("cdnv[fine]", 3.1, 3.2, 0.1, "-0.2 to 0.4", "not distinguishable"),
    )
    return RunRecord(
        kind="comparison",
        title="healthy, collapsed",
        verdict=Verdict(word="COMPARED", sentence="2 of 3 numbers differ."),
        provenance=Provenance(command="repscope compare a b", created="2026-11-21"),
        tables=(
            Table(
                name="differences",
                title="Differences from the baseline",
                columns=("metric", "a", "b", "difference", "95 % interval", "verdict"),
                rows=rows,
            ),
        ),
        next_commands=("repscope diagnose b",),
    )
