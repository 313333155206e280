"""Class distances and nearest centres against what one would write with NumPy.

Run: python benchmarks/bench_classes.py [rows]
50,000 x 512 float32, 100 classes. Ours: `ClassMoments.update`, `cdnv`, and
`nearest_class_centre` of every row, in float64. Against it, in the same run:

- per pair: for each of the 4,950 pairs of classes both classes' rows are picked by a
  mask, their means and variances taken, and the ratio; nearest centres by a loop over
  rows, `np.linalg.norm(centres - row, axis=1).argmin()`. float32 as given.
- per class: means and variances once per class, a loop over pairs for the distances;
  nearest centres by a loop over classes of `((rows - centre) ** 2).sum(axis=1)`.
- libraries: means and variances once per class, SciPy's `pdist` and
  `sklearn.metrics.pairwise_distances_argmin`.

All are checked to agree. Times are the least of three runs (one for those of over ten
seconds), of the wall clock and of the process. The second table is the silhouette of
10,000 rows, of 100 classes, against scikit-learn's.
"""

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.spatial
import sklearn.metrics
from machine import describe

from repscope.metrics.class_centres import nearest_class_centre
from repscope.metrics.clustering import cdnv
from repscope.metrics.silhouette import silhouette_values
from repscope.representations.class_moments import ClassMoments

D, CLASSES, REPEATS, PATIENCE = 512, 100, 3, 10.0
SILHOUETTE_ROWS = 10_000


def planted(n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, n)
    centres = 0.3 * generator.standard_normal((CLASSES, D), dtype=np.float32)
    rows = generator.standard_normal((n, D), dtype=np.float32)
    return np.maximum(rows + centres[labels], 0), labels


def ours(rows: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    moments = ClassMoments(CLASSES, D).update(rows, labels)
    nearest = nearest_class_centre(rows, moments.means, np.arange(CLASSES))
    return cdnv(moments).value, nearest


def per_pair(rows: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    ratios = []
    for i, j in itertools.combinations(range(CLASSES), 2):
        first, second = rows[labels == i], rows[labels == j]
        centre, other = first.mean(axis=0), second.mean(axis=0)
        width = ((first - centre) ** 2).sum(axis=1).mean()
        width += ((second - other) ** 2).sum(axis=1).mean()
        ratios.append(width / 2 / ((centre - other) ** 2).sum())
    centres = np.stack([rows[labels == k].mean(axis=0) for k in range(CLASSES)])
    nearest = [np.linalg.norm(centres - row, axis=1).argmin() for row in rows]
    return float(np.mean(ratios)), np.array(nearest)


def class_statistics(
    rows: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    groups = [rows[labels == k] for k in range(CLASSES)]
    centres = np.stack([group.mean(axis=0) for group in groups])
    widths = [group.var(axis=0).sum() for group in groups]
    return centres, np.array(widths)


def per_class(rows: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    centres, widths = class_statistics(rows, labels)
    ratios = [
        (widths[i] + widths[j]) / 2 / ((centres[i] - centres[j]) ** 2).sum()
        for i, j in itertools.combinations(range(CLASSES), 2)
    ]
    distances = np.stack([((rows - one) ** 2).sum(axis=1) for one in centres])
    return float(np.mean(ratios)), distances.argmin(axis=0)


def libraries(rows: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    centres, widths = class_statistics(rows, labels)
    distances = scipy.spatial.distance.pdist(centres, "sqeuclidean")
    i, j = np.triu_indices(CLASSES, 1)
    nearest = sklearn.metrics.pairwise_distances_argmin(rows, centres)
    return float(((widths[i] + widths[j]) / 2 / distances).mean()), nearest


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the answer, and the least wall-clock and process seconds."""
    walls, processes, answer = [], [], None
    while len(walls) < REPEATS and sum(walls) < PATIENCE:
        wall, process = time.perf_counter(), time.process_time()
        answer = run()
        walls.append(time.perf_counter() - wall)
        processes.append(time.process_time() - process)
    return answer, min(walls), min(processes)


def main() -> None:
    print(describe())
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rows, labels = planted(n)
    print(f"\nNCC + CDNV, {n:,} x {D} float32, {CLASSES} classes\n")
    print("| | wall | ratio | process | ratio | CDNV | rows alike |")
    print("|---|---|---|---|---|---|---|")
    (value, nearest), wall, process = timed(lambda: ours(rows, labels))
    print(f"| repscope | {wall:.2f} s | | {process:.2f} s | | {value:.6f} | |")
    for function in (per_pair, per_class, libraries):
        (other, found), seconds, used = timed(lambda run=function: run(rows, labels))
        alike = (found == nearest).mean()
        print(
            f"| {function.__name__} | {seconds:.2f} s | {seconds / wall:.1f} x | "
            f"{used:.2f} s | {used / process:.1f} x | {other:.6f} | {alike:.4%} |"
        )
    few, codes = rows[:SILHOUETTE_ROWS], labels[:SILHOUETTE_ROWS]
    one, wall, process = timed(lambda: silhouette_values(few, codes))
    doubled = few.astype(np.float64)
    other, seconds, used = timed(
        lambda: sklearn.metrics.silhouette_samples(doubled, codes)
    )
    print(f"\nSilhouette of {len(few):,} rows in float64\n")
    print("| | wall | ratio | process | ratio | greatest difference |")
    print("|---|---|---|---|---|---|")
    print(f"| repscope | {wall:.2f} s | | {process:.2f} s | | |")
    print(
        f"| scikit-learn | {seconds:.2f} s | {seconds / wall:.2f} x | {used:.2f} s | "
        f"{used / process:.2f} x | {np.abs(one - other).max():.1e} |"
    )


if __name__ == "__main__":
    main()
