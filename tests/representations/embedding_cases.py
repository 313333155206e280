"""Small networks and image sets for the tests of embedding, made by hand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from repscope._checking import InputError
from repscope._images import Preprocess
from repscope.data.images import Images
from repscope.data.imageset import ImageSet
from repscope.representations import embedding_run
from repscope.representations.embed import embed
from repscope.representations.embedding import Embedding

SIDE = 8
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PREPROCESS = Preprocess(SIDE, mean=MEAN, std=STD)
# An embedding of four shards: 150 images of which one is broken, 40 a shard.
N, ROWS, BROKEN = 150, 40, 41
KEPT = np.delete(np.arange(N), BROKEN)
# float32, sums of some ten products: a few units in the last place.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
NAMES = [f"{k:05d}-of-00004.npz" for k in range(4)]


class Tiny(nn.Module):
    """Two convolutions with batch statistics, dropout and a linear layer."""

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 5, 3, stride=2)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(5, 4)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        torch.random.set_rng_state(state)
        self.calls: list[int] = []

    def forward(self, images):
        self.calls.append(len(images))
        hidden = torch.relu(self.norm(self.first(images)))
        hidden = torch.relu(self.second(hidden)).mean(dim=(2, 3))
        return self.last(self.dropout(hidden))


def by_hand(module: Tiny, inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Return each layer's features, one normalised image (c, h, w) at a time."""
    rows: dict[str, list[np.ndarray]] = {"first": [], "norm": [], "last": []}
    norm = module.norm
    with torch.no_grad():
        for image in inputs:
            first = module.first(torch.from_numpy(image)[None])
            mean, deviation = norm.running_mean, (norm.running_var + norm.eps).sqrt()
            scaled = (first - mean[:, None, None]) / deviation[:, None, None]
            normed = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
            second = module.second(normed.clamp(min=0)).clamp(min=0)
            last = second.mean(dim=(2, 3)) @ module.last.weight.T + module.last.bias
            rows["first"].append(first.mean(dim=(2, 3))[0].numpy())
            rows["norm"].append(normed.mean(dim=(2, 3))[0].numpy())
            rows["last"].append(last[0].numpy())
    return {name: np.stack(values) for name, values in rows.items()}


def normalised_by_hand(pixels: np.ndarray) -> np.ndarray:
    """Return pixels (h, w, 3) as the network takes them (3, h, w)."""
    scaled = (pixels / 255.0 - np.array(MEAN)) / np.array(STD)
    return np.transpose(scaled, (2, 0, 1)).astype(np.float32)


class SomeBroken(Images):
    """Pictures of which some cannot be read."""

    name = "some broken"
    shape = None

    def __init__(self, pictures: list[np.ndarray], broken: Iterable[int] = ()) -> None:
        self.pictures, self.broken = pictures, frozenset(broken)

    @property
    def n(self) -> int:
        return len(self.pictures)

    def read(self, row: int) -> np.ndarray:
        if row in self.broken:
            raise InputError(f"image_{row}.png: no readable picture (truncated)")
        return self.pictures[row]

    def fingerprint(self, rows: np.ndarray) -> str:
        return f"broken {sorted(self.broken)} of {len(rows)}"


def expected(
    module: Tiny, images: ImageSet, rows: Iterable[int] | None = None
) -> dict[str, np.ndarray]:
    """Return `by_hand` of some rows of an image set, all by default."""
    rows = range(images.n) if rows is None else rows
    inputs = [normalised_by_hand(images.images.read(int(images.rows[k]))) for k in rows]
    return by_hand(module, inputs)


def pixels_of(n: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def image_set(n: int = 40, seed: int = 0) -> ImageSet:
    """Return random pictures with nested labels, an attribute and word ids."""
    fine = np.arange(n) % 11
    return ImageSet.of(
        pixels_of(n, seed=seed),
        labels={"fine": fine, "coarse": np.array(["b", "a"])[fine % 2]},
        attributes={"colour": np.array(["red", "green", "blue"])[np.arange(n) % 3]},
        ids=np.array([f"image_{k}.png" for k in range(n)]),
        name="noise",
    )


def broken_set(n: int, broken: Iterable[int]) -> ImageSet:
    """Return `image_set(n)` with some pictures unreadable."""
    whole = image_set(n)
    return ImageSet.of(
        SomeBroken(list(pixels_of(n)), broken),
        labels=whole.labels,
        attributes={"colour": whole.attributes[0]},
        ids=whole.ids,
        name="noise",
    )


def run(folder: Path | None = None, **options: Any) -> Embedding:
    """Return an embedding in small shards: by default of Tiny, of 150 images."""
    settings = {
        "encoder": Tiny(),
        "images": broken_set(N, [BROKEN]),
        "preprocess": PREPROCESS,
        "layers": ["first", "output"],
        "batch_size": 16,
        "out": folder,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_run, "SHARD_ROWS", ROWS)
        return embed(**{**settings, **options})


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
