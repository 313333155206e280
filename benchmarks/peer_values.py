"""What other tools say of the inputs in a folder; runs in the peers' own environment.

Run: PEERS_PYTHON peer_values.py FOLDER
Prints one JSON object: tool -> quantity -> input -> value, or the error's name.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

_declared = []


def declare_torchvision_operators() -> None:
    """Let a torchvision built for CUDA be imported beside a torch for the CPU.

    ssrlib imports torchvision for its data sets; nothing measured here uses it.
    """
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        import torchvision  # noqa: F401

        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
    _declared.append(library)
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]


def value_or_error(compute: Callable[[], float]) -> float | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(compute())
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is the answer
        return type(error).__name__
    return value if np.isfinite(value) else "NaN"


def reused_range(features: torch.Tensor) -> list[float]:
    """Return alpha of the same features, five times with the same range."""
    from reptrix.alpha import get_alpha

    fit_range = np.arange(10, 100)
    return [float(get_alpha(features, fit_range=fit_range)[0]) for _ in range(5)]


def top_eigenvalue(features: np.ndarray) -> float:
    from sklearn.decomposition import PCA

    return PCA(n_components=8).fit(features).explained_variance_[0]


def main() -> None:
    declare_torchvision_operators()
    from reptrix.alpha import get_alpha
    from reptrix.lidar import get_lidar
    from reptrix.rankme import get_rankme
    from ssrlib.processing.spectral_quality import AlphaReQProcessor, RankMeProcessor

    folder = Path(sys.argv[1])
    matrix: dict[str, Callable[[np.ndarray], float]] = {
        "reptrix rankme": lambda x: get_rankme(torch.from_numpy(x)),
        "reptrix alpha": lambda x: get_alpha(torch.from_numpy(x))[0],
        "ssrlib rankme": lambda x: RankMeProcessor().process(x)[0],
        "ssrlib alpha": lambda x: AlphaReQProcessor().process(x)[0],
        "scikit-learn top eigenvalue": top_eigenvalue,
    }
    found: dict[str, dict[str, object]] = {name: {} for name in matrix}
    found["reptrix lidar"] = {}
    for path in sorted(folder.glob("*.npy")):
        array = np.load(path)
        if array.ndim == 3:
            n, q, d = array.shape
            found["reptrix lidar"][path.stem] = value_or_error(
                lambda a=array, n=n, q=q: get_lidar(torch.from_numpy(a), n, q)
            )
            # What the README's tutorial does: views one after another, then a reshape
            # that takes image after image.
            stacked = array.transpose(1, 0, 2).reshape(n * q, d).copy()
            found["reptrix lidar"][path.stem + ", tutorial layout"] = value_or_error(
                lambda s=stacked, n=n, q=q: get_lidar(torch.from_numpy(s), n, q)
            )
            continue
        for name, compute in matrix.items():
            found[name][path.stem] = value_or_error(
                lambda a=array, compute=compute: compute(a.copy())
            )
    again = torch.from_numpy(np.load(folder / "noisy power law 1.npy"))
    found["reptrix alpha"]["five calls"] = reused_range(again)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
