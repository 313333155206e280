"""How long does a probe grid take, against LinearSVC for each of its cells?

Run: python benchmarks/bench_probe_grid.py
10 layers x 3 label sets (100, 20 and 5 nested classes) x 5 epochs on 10,000 x 256.
Ours takes the whole grid: linear probe, nearest centres and class geometry. LinearSVC
(C = 1, otherwise its defaults) takes one layer of each of three epochs, standardised
beforehand, with the three label sets, and nothing else; its time is multiplied by the
number of cells. Its dual solver takes one layer. To reach: 25 times as fast.
"""

import time
import warnings

import numpy as np
from machine import describe
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from repscope.metrics.probe_grid import ProbeGrid

N, D, LAYERS = 10_000, 256, 10
EPOCHS = (0, 10, 40, 100, 400)
# The layer of an epoch that LinearSVC takes.
SAMPLED = {0: "layer1", 40: "layer5", 400: "layer10"}


def labels() -> dict[str, np.ndarray]:
    fine = np.random.default_rng(0).permutation(np.arange(N) % 100)
    return {"class": fine, "superclass": fine // 5, "group": fine // 20}


def layers(epoch: int) -> dict[str, np.ndarray]:
    """Return layers that read the classes better with depth and training."""
    generator = np.random.default_rng(epoch)
    fine = labels()["class"]
    centres = generator.standard_normal((100, D))
    centres += 1.5 * generator.standard_normal((20, D))[np.arange(100) // 5]
    decay = np.arange(1.0, D + 1) ** -0.5
    made = {}
    for k in range(LAYERS):
        signal = 0.05 + 0.4 * (k + 1) / LAYERS * (1 - np.exp(-(epoch + 5) / 40))
        noise = generator.standard_normal((N, D), dtype=np.float32)
        rows = signal * centres[fine] + noise
        made[f"layer{k + 1}"] = np.maximum(rows * decay + 0.1, 0).astype(np.float32)
    return made


class Clock:
    """Wall and processor seconds of a block; the second tells under load."""

    def __enter__(self) -> "Clock":
        self.started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, processor = self.started
        self.seconds = np.array(
            [time.perf_counter() - wall, time.process_time() - processor]
        )


def svc(
    features: np.ndarray, is_test: np.ndarray, *, dual: bool | None
) -> tuple[np.ndarray, dict[str, float]]:
    """Return seconds of LinearSVC for all label sets, and its test accuracies."""
    scaler = StandardScaler().fit(features[~is_test])
    train = scaler.transform(features[~is_test])
    test = scaler.transform(features[is_test])
    total, accuracies = np.zeros(2), {}
    for name, codes in labels().items():
        model = LinearSVC(C=1.0) if dual is None else LinearSVC(C=1.0, dual=dual)
        with Clock() as clock:
            model.fit(train, codes[~is_test])
        total += clock.seconds
        accuracies[name] = model.score(test, codes[is_test])
        print(f"  {name}: {clock.seconds[0]:.1f} s, accuracy {accuracies[name]:.4f}")
    return total, accuracies


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(describe())
    is_test = np.arange(N) % 5 == 0
    grid, ours = ProbeGrid(), np.zeros(2)
    samples, gaps = [], []
    for epoch in EPOCHS:
        features = layers(epoch)
        with Clock() as clock:
            grid = grid.add(epoch, features, labels(), is_test)
        ours += clock.seconds
        layer = SAMPLED.get(epoch)
        if layer is None:
            continue
        print(f"LinearSVC, epoch {epoch}, {layer}", flush=True)
        seconds, accuracies = svc(features[layer], is_test, dual=None)
        samples.append(seconds)
        for name, accuracy in accuracies.items():
            (row,) = grid.select("linear", epoch=epoch, layer=layer, level=name)
            gaps.append(abs((row.value or 0) - accuracy))
    print("its dual solver, epoch 40, layer5", flush=True)
    dual, _ = svc(layers(40)["layer5"], is_test, dual=True)
    n_cells = len(EPOCHS) * LAYERS
    factor = n_cells / len(samples)
    rows = {
        f"ours, the whole grid of {len(grid.rows):,} numbers": ours,
        f"LinearSVC, {3 * len(samples)} of {3 * n_cells} cells, times {factor:.3g}": (
            factor * np.sum(samples, axis=0)
        ),
        f"its dual solver, 3 of {3 * n_cells} cells, times {n_cells}": n_cells * dual,
    }
    print("\n| | seconds | ratio | processor seconds | ratio |")
    print("|---|---|---|---|---|")
    for name, (wall, processor) in rows.items():
        ratios = wall / ours[0], processor / ours[1]
        print(
            f"| {name} | {wall:.0f} | {ratios[0]:.1f} "
            f"| {processor:.0f} | {ratios[1]:.1f} |"
        )
    converged = [row.converged for row in grid.select("linear")]
    print(
        f"\nlargest gap in test accuracy {max(gaps):.4f}; "
        f"converged in {converged.count(True)} of {len(converged)} cells"
    )


if __name__ == "__main__":
    main()
