"""Does the label-free family of a long file take constant memory and linear time?

Run: python benchmarks/bench_streaming.py [ROWS ...]
By default 1, 3 and 10 million rows of 256 float16 features in one .npy file (5 GB),
read as `diagnose` reads it: the survey's two passes, then spectrum, scores, shared
features and repeated rows. Compared with the bare product X^T X of as many rows, in
float64 (as ours) and in float32, on data already in memory. To reach: below 1 GB, and
2.5 x the product. Times of the machine's cores as they are; peak memory is the whole
process's.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe

D = 256
BLOCK_ROWS = 100_000
PRODUCT_REPEATS = 3
FAMILY = r"""
import json, pathlib, re, sys, time
from repscope.diagnosis import label_free, spectrum
from repscope.diagnosis.survey import survey
from repscope.representations.representation import Representation
started, busy = time.perf_counter(), time.process_time()
seen = survey(Representation.of(sys.argv[1]))
passes = time.perf_counter() - started
measured = [
    *spectrum.spectral_measurements(seen)[0],
    *label_free.score_measurements(seen),
    *label_free.structure_measurements(seen),
    *label_free.hygiene_measurements(seen, None),
]
status = pathlib.Path("/proc/self/status").read_text()
print(json.dumps(dict(
    wall=time.perf_counter() - started,
    cpu=time.process_time() - busy,
    passes=passes,
    memory=int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024,
    values=sum(one.value is not None for one in measured),
)))
"""


def write(path: Path, n: int) -> None:
    """Write n rows of rectified features with eigenvalues of about 1/k."""
    generator = np.random.default_rng(0)
    scales = (np.arange(1.0, D + 1) ** -0.5).astype(np.float32)
    header = {"descr": "<f2", "fortran_order": False, "shape": (n, D)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, n - start)
            block = generator.standard_normal((rows, D), dtype=np.float32)
            block = np.maximum(block * scales + np.float32(0.2), 0)
            file.write(block.astype(np.float16).tobytes())


def product_seconds(n: int, kind: type[np.floating]) -> float:
    """Return the wall time of X^T X for n rows, block by block in memory."""
    block = np.random.default_rng(0).standard_normal((BLOCK_ROWS, D)).astype(kind)
    times = []
    for _ in range(PRODUCT_REPEATS):
        started = time.perf_counter()
        for _ in range(5):
            block.T @ block
        times.append(time.perf_counter() - started)
    return min(times) / 5 * n / BLOCK_ROWS


def main() -> None:
    sizes = [int(one) for one in sys.argv[1:]] or [10**6, 3 * 10**6, 10**7]
    print(describe())
    print(
        "\n| rows x 256 float16 | wall s | of them passes | CPU s | of the float64 "
        "product | of the float32 product | s per million | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            if shutil.disk_usage(folder).free < 2 * D * n + 2**30:
                print(f"| {n:,} | not enough free disk in {folder} |")
                continue
            path = Path(folder) / "features.npy"
            write(path, n)
            command = [sys.executable, "-c", FAMILY, str(path)]
            printed = subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout
        one = json.loads(printed.splitlines()[-1])
        double, single = (product_seconds(n, k) for k in (np.float64, np.float32))
        print(
            f"| {n:,} | {one['wall']:.1f} | {one['passes']:.1f} | {one['cpu']:.1f} "
            f"| {one['wall'] / double:.2f} | {one['wall'] / single:.2f} "
            f"| {one['wall'] / n * 1e6:.2f} | {one['memory']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
