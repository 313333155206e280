"""Where public tools print other numbers than the papers: docs/disagreements.md.

Run: make bench-disagreements, which installs benchmarks/peers.txt into an environment
of its own; or python benchmarks/disagreements.py PEERS_PYTHON. Inputs are made here
with a known truth; each number of the page is computed in this run.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from machine import describe

from repscope.metrics.lidar import lidar_of_views
from repscope.metrics.power_law import alpha
from repscope.metrics.spectral import effective_rank_covariance, rankme
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law, with_exact_spectrum

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/disagreements.md"
PEERS = Path(__file__).with_name("peers.txt")
TEMPLATE = Path(__file__).with_name("disagreements.template.md")

Found = Mapping[str, Mapping[str, object]]


def matrices() -> dict[str, np.ndarray]:
    """Return features with a known truth, by name."""
    generator = np.random.default_rng(0)
    ranks = np.arange(1.0, 513)
    normal = generator.standard_normal
    low_rank = normal((4000, 5)) @ normal((5, 2048))
    made = {
        **{
            f"power law {a}": with_exact_spectrum(4000, ranks**-a)
            for a in (0.5, 1.0, 1.5)
        },
        "isotropic, mean 50": normal((4000, 64)) + 50,
        "standard normal": normal((1000, 1024)),
        "rank 1": normal((4000, 1)) @ normal((1, 2048)),
        "rank 5": low_rank,
        "noisy power law 1": power_law(4000, 512, 1.0),
        "few rows": power_law(600, 512, 1.0),
        "64 features": power_law(4000, 64, 1.0),
        "constant": np.ones((1000, 128)),
    }
    for mean in (0, 10, 100, 1000):
        made[f"float32, mean {mean}"] = (normal((65_536, 64)) + mean).astype(np.float32)
    return made


def views(informative: int, n: int = 500, q: int = 10, d: int = 128) -> np.ndarray:
    """Return q views of n objects that differ in some directions only."""
    generator = np.random.default_rng(informative)
    objects = np.zeros((n, 1, d))
    objects[:, :, :informative] = 10 * generator.standard_normal((n, 1, informative))
    return objects + generator.standard_normal((n, q, d))


def exponential_entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def published_rankme(features: np.ndarray, epsilon: float = 1e-7) -> float:
    """Return the published formula, from the singular values themselves."""
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    return exponential_entropy(values / values.sum() + epsilon)


def published_lidar(
    given: np.ndarray, *, within: int = 0, delta: float = 1e-4, epsilon: float = 1e-7
) -> float:
    """Return the published formula through an inverse root, step by step."""
    n, q, d = given.shape
    centres = given.mean(axis=1)
    apart = centres - centres.mean(axis=0)
    inside = (given - centres[:, None]).reshape(-1, d)
    covariance = inside.T @ inside / (n * (q - within)) + delta * np.eye(d)
    values, axes = np.linalg.eigh(covariance)
    root = axes / np.sqrt(values) @ axes.T
    spectrum = np.linalg.eigvalsh(root @ (apart.T @ apart / (n - 1)) @ root)
    spectrum = np.clip(spectrum, 0, None)
    return exponential_entropy(spectrum / spectrum.sum() + epsilon)


def contiguous(given: np.ndarray, size: int) -> np.ndarray:
    """Return groups of consecutive rows of views that stand one view after another."""
    n, q, d = given.shape
    return given.transpose(1, 0, 2).reshape(n * q // size, size, d)


def moments_of(features: np.ndarray) -> Moments:
    return Moments(features.shape[1]).update(features)


def table(columns: list[str], rows: list[list[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(shown, line)) + " |" for line in lines)


def shown(value: object) -> str:
    if isinstance(value, float):
        return (
            f"{value:.3g}" if abs(value) < 10 or abs(value) >= 1e5 else f"{value:.1f}"
        )
    return str(value)


def rankme_table(made: Mapping[str, np.ndarray], peers: Found) -> str:
    truths = {"rank 1": 1.0, "rank 5": "at most 5"}
    rows: list[list[object]] = []
    for name in (
        "power law 0.5",
        "power law 1.0",
        "power law 1.5",
        "isotropic, mean 50",
        "standard normal",
        "rank 1",
        "rank 5",
    ):
        features = made[name]
        moments = moments_of(features)
        n, d = features.shape
        rows.append(
            [
                name,
                f"{n:,} x {d:,}",
                truths.get(name, ""),
                published_rankme(features),
                rankme(moments.singular_values()[:n]),
                peers["reptrix rankme"][name],
                peers["ssrlib rankme"][name],
                published_rankme(features, 1e-5),
                effective_rank_covariance(moments.spectrum().values),
            ]
        )
    columns = ["features", "n x d", "truth", "published formula", "**repscope**"]
    columns += ["reptrix", "ssrlib", "ε = 1e-5 (stable-pretraining)"]
    return table([*columns, "repscope's effective rank of the covariance"], rows)


def alpha_table(made: Mapping[str, np.ndarray], peers: Found) -> str:
    rows: list[list[object]] = []
    for name, truth in (
        ("power law 1.0", 1.0),
        ("power law 1.5", 1.5),
        ("noisy power law 1", 1.0),
        ("few rows", 1.0),
        ("64 features", 1.0),
    ):
        features = made[name]
        own = alpha(moments_of(features).spectrum().values, len(features))
        ranks = f"{own.details['first_rank']}-{own.details['last_rank']}"
        rows.append(
            [
                name,
                f"{features.shape[0]:,} x {features.shape[1]}",
                truth,
                f"{own.value:.3f} on ranks {ranks}",
                peers["reptrix alpha"][name],
                peers["ssrlib alpha"][name],
            ]
        )
    columns = ["features", "n x d", "true α", "**repscope**", "reptrix", "ssrlib"]
    return table(columns, rows)


def lidar_table(informative: list[int], peers: Found) -> str:
    rows: list[list[object]] = []
    for k in informative:
        given, name = views(k), f"{k} informative"
        layout = contiguous(given, 10)
        rows.append(
            [
                k,
                published_lidar(given),
                lidar_of_views(given).value,
                peers["reptrix lidar"][name],
                peers["reptrix lidar"][name + ", tutorial layout"],
                published_lidar(given, within=1, epsilon=1e-8),
                published_lidar(layout, within=1, epsilon=1e-8),
            ]
        )
    columns = ["informative dimensions", "published formula", "**repscope**"]
    columns += ["reptrix", "reptrix, layout of its tutorial"]
    columns += ["stable-pretraining's formula", "the same, in the layout it is handed"]
    return table(columns, rows)


def mean_table(made: Mapping[str, np.ndarray], peers: Found) -> str:
    rows: list[list[object]] = []
    for mean in (0, 10, 100, 1000):
        name = f"float32, mean {mean}"
        features = made[name]
        truth = np.linalg.eigvalsh(np.cov(features.astype(np.float64).T, ddof=0))[-1]
        n = len(features)
        theirs = float(str(peers["scikit-learn top eigenvalue"][name])) * (n - 1) / n
        own = moments_of(features).spectrum().values[0]
        rows.append([mean, truth, abs(own / truth - 1), abs(theirs / truth - 1)])
    columns = ["mean / deviation", "true λ₁", "**repscope**, relative error"]
    return table([*columns, "scikit-learn PCA, defaults, relative error"], rows)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: disagreements.py PEERS_PYTHON (see make bench-disagreements)")
    made, informative = matrices(), [4, 8, 64, 128]
    with tempfile.TemporaryDirectory() as folder:
        for name, features in made.items():
            np.save(Path(folder) / name, features)
        for k in informative:
            np.save(Path(folder) / f"{k} informative", views(k))
        script = Path(__file__).with_name("peer_values.py")
        done = subprocess.run(
            [sys.argv[1], str(script), folder], capture_output=True, text=True
        )
    if done.returncode:
        sys.exit(done.stderr)
    peers = json.loads(done.stdout)
    calls = ", ".join(f"{one:.4f}" for one in peers["reptrix alpha"]["five calls"])
    pins = [line for line in PEERS.read_text().splitlines() if "==" in line]
    text = TEMPLATE.read_text(encoding="utf-8").format(
        pins=", ".join(pin.replace("==", " ") for pin in pins if "faiss" not in pin),
        repscope=version("repscope"),
        machine=describe(),
        rankme=rankme_table(made, peers),
        alpha=alpha_table(made, peers),
        calls=calls,
        constant_repscope=shown(rankme(moments_of(made["constant"]).singular_values())),
        constant_reptrix=peers["reptrix rankme"]["constant"],
        constant_ssrlib=shown(peers["ssrlib rankme"]["constant"]),
        lidar=lidar_table(informative, peers),
        means=mean_table(made, peers),
    )
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
