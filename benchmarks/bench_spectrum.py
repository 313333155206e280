"""How long do alpha, RankMe and the effective ranks of a matrix in memory take?

Run: python benchmarks/bench_spectrum.py [ROWS DIMENSIONS]
By default 50,000 x 2,048 float32. Compared with one float32 product X^T X, the faster
of NumPy's and torch's (to reach: 3 x), and with reptrix 0.1.0's alpha and RankMe (to
reach: a tenth of its time, a third of its extra memory). Each runs in a process of its
own, which tells its seconds and by how much its peak memory grew over that with the
data loaded. REPSCOPE_PEERS names a python that has reptrix; without it that row is left
out.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import describe

REPEATS = 3
MEASURED = r"""
import json, pathlib, re, sys, time
import numpy as np
{imports}
features = np.load(sys.argv[1])
def memory():  # not ru_maxrss, which begins with what the parent held
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
before, wall, cpu = memory(), [], []
for _ in range(int(sys.argv[2])):
    started, busy = time.perf_counter(), time.process_time()
{body}
    wall.append(time.perf_counter() - started)
    cpu.append(time.process_time() - busy)
print(json.dumps(dict(wall=min(wall), cpu=min(cpu), memory=memory() - before)))
"""
OURS = (
    "from repscope.metrics import power_law, spectral\n"
    "from repscope.representations.moments import Moments",
    """
    moments = Moments(features.shape[1]).update(features)
    spectra = moments.spectra()
    power_law.alpha(spectra.eigenvalues, moments.n)
    spectral.rankme(spectra.singular_values)
    spectral.effective_rank(spectra.eigenvalues)
    spectral.effective_rank_covariance(spectra.eigenvalues)
    spectral.participation_ratio(spectra.eigenvalues)
""",
)
WITH_CORRELATION = (
    OURS[0],
    OURS[1] + "    spectral.effective_rank_correlation(moments.covariance())\n",
)
PRODUCT = ("", "    features.T @ features\n")
PRODUCT_TORCH = (
    "import torch",
    "    tensor = torch.from_numpy(features)\n    tensor.T @ tensor\n",
)
REPTRIX = (
    "import torch\nfrom reptrix.alpha import get_alpha\n"
    "from reptrix.rankme import get_rankme",
    """
    tensor = torch.from_numpy(features)
    get_alpha(tensor)
    get_rankme(tensor)
""",
)


def measured(
    python: str, what: tuple[str, str], path: Path, repeats: int
) -> dict[str, float]:
    """Return least wall and CPU seconds, and MB of extra peak memory."""
    script = MEASURED.format(imports=what[0], body=what[1])
    command = [python, "-c", script, str(path), str(repeats)]
    # Not inherited: peers have packages of their own.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    told: dict[str, float] = json.loads(printed.splitlines()[-1])
    return told


def main() -> None:
    n, d = (int(one) for one in sys.argv[1:3] or ("50000", "2048"))
    peers = os.environ.get("REPSCOPE_PEERS")
    print(describe())
    print(f"{n:,} x {d:,} float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        scales = np.arange(1.0, d + 1, dtype=np.float32) ** -0.5
        noise = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
        np.save(path, noise * scales + np.float32(0.3))
        rows = {
            "product, NumPy": measured(sys.executable, PRODUCT, path, REPEATS),
            "product, torch": measured(sys.executable, PRODUCT_TORCH, path, REPEATS),
            "repscope": measured(sys.executable, OURS, path, REPEATS),
            "repscope, with the rank of the correlation": measured(
                sys.executable, WITH_CORRELATION, path, REPEATS
            ),
        }
        if peers:
            rows["reptrix"] = measured(peers, REPTRIX, path, 1)
    floor = min(rows[name]["wall"] for name in ("product, NumPy", "product, torch"))
    print("\n| what | wall s | CPU s | of the floor | extra peak memory, MB |")
    print("|---|---|---|---|---|")
    for name, one in rows.items():
        print(
            f"| {name} | {one['wall']:.2f} | {one['cpu']:.2f} "
            f"| {one['wall'] / floor:.2f} | {one['memory']:,.0f} |"
        )
    if not peers:
        print("| reptrix | not installed | | | |")
        return
    ours, other = rows["repscope"], rows["reptrix"]
    print(
        f"\nreptrix takes {other['wall'] / ours['wall']:.1f} x the time and "
        f"{other['memory'] / max(ours['memory'], 1):.1f} x the extra memory."
    )


if __name__ == "__main__":
    main()
