"""Which product gives the scatter of centred rows fastest, exactly?

Run: python benchmarks/bench_products.py
Compares NumPy's X.T @ X (which BLAS does as a symmetric rank-k update), SciPy's dsyrk,
a general product of two arrays, and torch, in float64, as ratios in one run.
"""

import time
from collections.abc import Callable

import numpy as np
from machine import describe
from scipy.linalg.blas import dsyrk

REPEATS = 5


def seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    print(describe())
    print(f"{'rows x d':>14} {'X.T @ X':>10} {'dsyrk':>8} {'general':>8} {'torch':>8}")
    for n, d in ((32_768, 256), (16_384, 512), (8_192, 1024), (8_192, 2048)):
        x = np.random.default_rng(0).standard_normal((n, d))
        other = x.copy()
        base = seconds(lambda x=x: x.T @ x)
        ratios = [
            seconds(lambda x=x: dsyrk(1.0, x.T)) / base,
            seconds(lambda x=x, other=other: x.T @ other) / base,
        ]
        try:
            import torch

            tensor = torch.from_numpy(x)
            ratios.append(seconds(lambda tensor=tensor: tensor.T @ tensor) / base)
        except ImportError:
            ratios.append(float("nan"))
        text = " ".join(f"{ratio:7.2f}x" for ratio in ratios)
        print(f"{n:>7,} x {d:<4} {base * 1000:8.0f}ms {text}")


if __name__ == "__main__":
    main()
