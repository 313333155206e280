"""How fast is multinomial logistic regression, for one label set and for five?

Run: python benchmarks/bench_logistic.py
Features of 10,000 x 512, standardised, C = 1, against scikit-learn's
LogisticRegression(lbfgs), one fit per label set, in one run: once with its default
tolerance, once with the loosest of some tolerances at which every one of its objectives
lies within a thousandth of the minimum, as ours do. Wall clock, the least of a few
repeats.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import describe
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from repscope.metrics.logistic import logistic_many
from repscope.metrics.probing import LabelSet, standardise

N, D, CLASSES = 10_000, 512, 100
REPEATS = 3
# How far our objectives, and scikit-learn's, may lie above the minimum.
WITHIN = 1e-3
LIBRARY_DEFAULT = 1e-4
LIBRARY_TOLERANCES = (LIBRARY_DEFAULT, 3e-5, 1e-5, 3e-6, 1e-6)

# Distance of class centres, in deviations of a feature, and decay of the spectrum.
DATA = {
    "classes apart": (0.2, 0.0),
    "classes overlap": (0.05, 0.0),
    "overlap, features correlated": (0.05, 0.5),
}


def planted(distance: float, decay: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, N)
    centres = distance * generator.standard_normal((CLASSES, D))
    features = centres[labels] + generator.standard_normal((N, D))
    if decay:
        rotation = np.linalg.qr(generator.standard_normal((D, D)))[0]
        features = features * np.arange(1, D + 1) ** -decay @ rotation
    return standardise(features, features)[0], labels


def label_sets(labels: np.ndarray) -> dict[str, list[LabelSet]]:
    generator = np.random.default_rng(1)
    noisy = [
        np.where(generator.random(N) < share, generator.permutation(labels), labels)
        for share in (0.0, 0.05, 0.1, 0.2, 0.4)
    ]
    return {
        "one: 100 classes": [LabelSet(labels, CLASSES)],
        "five: 100, 20, 10, 5, 2": [
            LabelSet(labels % c, c) for c in (100, 20, 10, 5, 2)
        ],
        "five: 100 each": [LabelSet(codes, CLASSES) for codes in noisy],
    }


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - started)
    return min(times), result


def library_fits(
    features: np.ndarray, sets: list[LabelSet], tolerance: float
) -> list[LogisticRegression]:
    return [
        LogisticRegression(C=1.0, tol=tolerance, max_iter=5000).fit(features, one.codes)
        for one in sets
    ]


def objective(features: np.ndarray, one: LabelSet, model: LogisticRegression) -> float:
    weights, bias = model.coef_.T, model.intercept_
    if one.n_classes == 2:
        # One set of weights w there stands for -w / 2 and w / 2.
        weights = np.hstack([-weights / 2, weights / 2])
        bias = np.concatenate([-bias / 2, bias / 2])
    logits = features @ weights + bias
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(N), one.codes]
    loss = (np.log(np.exp(logits).sum(axis=1)) - own).sum()
    return float(loss + (weights**2).sum() / 2)


def excess(values: list[float], minima: list[float]) -> float:
    return max(v / least - 1 for v, least in zip(values, minima, strict=True))


def compare(features: np.ndarray, sets: list[LabelSet]) -> list[str]:
    """Return cells: our time and excess, then the library's, twice, with ratios."""
    best = logistic_many(features, sets, tolerance=1e-7)
    minima = [fits[0].objective for fits in best]
    ours, found = seconds(lambda: logistic_many(features, sets))
    ours_above = excess([fits[0].objective for fits in found], minima)
    cells = [f"{ours:.2f} s, {ours_above:.0e}"]
    default = None
    for tolerance in LIBRARY_TOLERANCES:
        theirs, models = seconds(
            lambda tolerance=tolerance: library_fits(features, sets, tolerance), 2
        )
        pairs = zip(sets, models, strict=True)
        above = excess([objective(features, *pair) for pair in pairs], minima)
        cell = f"{theirs / ours:.2f}x ({theirs:.2f} s, {above:.0e})"
        default = default or cell
        if above <= WITHIN:
            return [*cells, default, f"{cell[:-1]}, tol {tolerance:.0e})"]
    return [*cells, default or "", "not reached"]


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(describe())
    print()
    print(
        "| features | label sets | ours: time, excess | scikit-learn, default: ratio "
        "(time, excess) | scikit-learn within 1e-3: ratio (time, excess, tol) |"
    )
    print("|---|---|---|---|---|")
    for name, (distance, decay) in DATA.items():
        features, labels = planted(distance, decay)
        for kind, sets in label_sets(labels).items():
            cells = " | ".join(compare(features, sets))
            print(f"| {name} | {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
