"""How long and how much memory does `repscope diagnose` take, as a whole process?

Run: python benchmarks/bench_diagnose.py [labelled|large|all]
labelled: 10,000 x 512 float32 with fine and coarse labels; to reach: 15 s, two cores.
large: 1,000,000 x 256 float32 .npy (1 GB), label-free; to reach: 60 s and 1 GB.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe

from repscope.theory.planted import sound


def run(command: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak resident megabytes of a child process."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def labelled(folder: Path) -> list[str]:
    planted = sound(10_000, 512, n_classes=20, subclasses=5, noise=3.0)
    features = planted.features.astype(np.float32)
    np.savez(folder / "labelled.npz", features=features, **planted.labels)
    return ["labelled.npz", "--labels", "fine,coarse"]


def large(folder: Path) -> list[str]:
    generator = np.random.default_rng(0)
    scales = (np.arange(1.0, 257) ** -0.5).astype(np.float32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (1_000_000, 256)}
    # Written, not mapped: a child's peak memory counts what its parent held.
    with (folder / "large.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(20):
            block = generator.standard_normal((50_000, 256), dtype=np.float32)
            file.write(np.maximum(block * scales + 0.2, 0).tobytes())
    return ["large.npy"]


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    print(describe())
    for name, make in (("labelled", labelled), ("large", large)):
        if wanted not in (name, "all"):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            arguments = make(folder)
            arguments[0] = str(folder / arguments[0])
            command = [sys.executable, "-m", "repscope", "diagnose", *arguments]
            times = []
            for number in range(3):
                out = ["-q", "-o", str(folder / f"out{number}")]
                times.append(run([*command, *out]))
            seconds = sorted(wall for wall, _ in times)
            memory = max(peak for _, peak in times)
            span = f"{seconds[0]:.1f}-{seconds[2]:.1f}"
            print(
                f"{name}: wall {seconds[1]:.1f} s (of 3: {span}), "
                f"peak memory {memory:,.0f} MB"
            )


if __name__ == "__main__":
    main()
