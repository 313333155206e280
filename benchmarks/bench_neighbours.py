"""How fast are exact cosine neighbours, beside faiss?

Run: REPSCOPE_PEERS=/path/to/python python benchmarks/bench_neighbours.py
Finds the 20 nearest of 50,000 x 512 rows for 10,000 queries, on the same float32 rows:
our search (which makes rows of length one, and ranks in float64), faiss's IndexFlatIP
on rows of length one (made before its clock starts), and the bare product of the two
matrices. REPSCOPE_PEERS names a python that has faiss-cpu; without it the peer is
skipped. Threads: OMP_NUM_THREADS, the same for all.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import describe

from repscope.metrics.nearest import nearest

N, M, D, K, REPEATS = 50_000, 10_000, 512, 20, 3
TIE = 1e-6  # cosines closer than single precision can tell

PEER = """
import json, sys, time
import numpy as np, faiss
folder, k, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
bank, queries = (np.load(f"{folder}/{name}.npy") for name in ("bank", "queries"))
faiss.normalize_L2(bank)
faiss.normalize_L2(queries)
index = faiss.IndexFlatIP(bank.shape[1])
index.add(bank)
wall, processor = [], []
for _ in range(repeats):
    started, used = time.perf_counter(), time.process_time()
    _, found = index.search(queries, k)
    wall.append(time.perf_counter() - started)
    processor.append(time.process_time() - used)
np.save(f"{folder}/found.npy", found)
print(json.dumps({
    "wall": min(wall), "cpu": min(processor), "version": faiss.__version__,
    "threads": faiss.omp_get_max_threads(),
}))
"""


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return the least wall-clock and processor seconds of a few runs."""
    wall, processor = [], []
    for _ in range(REPEATS):
        started, used = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    return min(wall), min(processor)


def clustered(n: int, seed: int) -> np.ndarray:
    """Return rows around 100 centres, after a rectifier, as encoders give them."""
    centres = np.random.default_rng(0).standard_normal((100, D), dtype=np.float32)
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, D), dtype=np.float32)
    return np.maximum(rows + centres[generator.integers(0, 100, n)], 0)


def product(bank: np.ndarray, queries: np.ndarray) -> None:
    for start in range(0, len(bank), 4096):
        queries @ bank[start : start + 4096].T


def beside_faiss(
    bank: np.ndarray, queries: np.ndarray, found: np.ndarray
) -> dict | None:
    interpreter = os.environ.get("REPSCOPE_PEERS")
    if not interpreter:
        return None
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "bank.npy", bank)
        np.save(Path(folder) / "queries.npy", queries)
        command = [interpreter, "-c", PEER, folder, str(K), str(REPEATS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        peer: dict = json.loads(done.stdout)
        theirs = np.load(Path(folder) / "found.npy")
    peer["differ"] = differing(bank, queries, found, theirs)
    return peer


def differing(
    bank: np.ndarray, queries: np.ndarray, ours: np.ndarray, theirs: np.ndarray
) -> int:
    """Return how many neighbours differ by more than a tie."""
    count = 0
    for row in np.flatnonzero((np.sort(ours) != np.sort(theirs)).any(axis=1)):
        query = queries[row].astype(float)
        cosines = [
            np.sort(
                bank[picked].astype(float)
                @ query
                / np.linalg.norm(bank[picked].astype(float), axis=1)
                / np.linalg.norm(query)
            )
            for picked in (ours[row], theirs[row])
        ]
        count += int((np.abs(cosines[0] - cosines[1]) > TIE).sum())
    return count


def main() -> None:
    bank, queries = clustered(N, 1), clustered(M, 2)
    found = nearest(bank, queries, K)[0]
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    floor = timed(lambda: product(bank, queries))
    ours = timed(lambda: nearest(bank, queries, K))
    print(f"{describe()} | OMP_NUM_THREADS {threads}\n")
    print(f"{K} nearest of {N:,} x {D} float32 rows, {M:,} queries\n")
    print("| | wall s | processor s | ours / it, wall | differing neighbours |")
    print("|---|---|---|---|---|")
    print(f"| repscope | {ours[0]:.2f} | {ours[1]:.2f} | 1 | |")
    print(f"| product alone | {floor[0]:.2f} | {floor[1]:.2f} "
          f"| {ours[0] / floor[0]:.2f} | |")  # fmt: skip
    peer = beside_faiss(bank, queries, found)
    if peer is None:
        print("| faiss IndexFlatIP | not installed | | | |")
        return
    name = f"faiss {peer['version']} IndexFlatIP, {peer['threads']} threads"
    print(f"| {name} | {peer['wall']:.2f} | {peer['cpu']:.2f} "
          f"| {ours[0] / peer['wall']:.2f} | {peer['differ']} |")  # fmt: skip


if __name__ == "__main__":
    main()
