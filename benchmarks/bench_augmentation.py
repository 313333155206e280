"""How many images a second does one core augment, beside torchvision and kornia?

Run: python benchmarks/bench_augmentation.py
256 images of 32 x 32 pixels, SimCLR at strength 1 with blur and solarisation, each
image with its own parameters. CPU seconds of one thread, the least of rounds that take
the contestants in turn: what else the machine does then weighs on all of them alike.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from machine import describe

from repscope._randomness import Purpose, sample_keys
from repscope.data.augmentations import augment
from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    Operation,
    RandomResizedCrop,
    Solarize,
)
from repscope.data.protocols import IMAGENET

SIDE, N, ROUNDS = 32, 256, 40
JITTER = (0.8, 0.8, 0.8, 0.2)
# torchvision takes so long that a part of the batch must do.
N_ONE_BY_ONE = 64

Run = Callable[[], object]


def operations(
    interpolation: str = "bilinear", hue: str = "exact"
) -> tuple[Operation, ...]:
    return (
        RandomResizedCrop(SIDE, interpolation=interpolation),
        HorizontalFlip(0.5),
        ColorJitter(*JITTER, p=0.8, hue_method=hue),
        Grayscale(0.2),
        GaussianBlur(3, p=0.5),
        Solarize(p=0.2),
        Normalize(*IMAGENET),
    )


def ours(images: torch.Tensor) -> Iterator[tuple[str, int, Run]]:
    keys = sample_keys(Purpose.AUGMENTATION, 0, np.arange(N, dtype=np.uint64))
    for name, made in (
        ("repscope", operations()),
        ("repscope, bicubic", operations("bicubic")),
        ("repscope, hue by YIQ", operations(hue="yiq")),
    ):
        yield name, N, lambda made=made: augment(images, made, keys)


def torchvision_one_by_one(images: torch.Tensor) -> Iterator[tuple[str, int, Run]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from references.torchvision_operators import torchvision_or_skip

    try:
        torchvision_or_skip()
    except pytest.skip.Exception:
        print("torchvision is not installed: left out")
        return
    from torchvision.transforms import v2

    def chain(*start: object) -> v2.Compose:
        return v2.Compose(
            [
                *start,
                v2.RandomResizedCrop(SIDE, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))], p=0.5),
                v2.RandomSolarize(threshold=128, p=0.2),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(*IMAGENET),
            ]
        )

    rows = images[:N_ONE_BY_ONE]
    of_tensors, of_pictures = chain(), chain(v2.ToPILImage())
    tensors = list(rows.permute(0, 3, 1, 2).contiguous())
    for name, one_by_one in (
        ("torchvision v2, tensor by tensor", of_tensors),
        ("torchvision v2, PIL by PIL", of_pictures),
    ):
        yield (
            name,
            N_ONE_BY_ONE,
            lambda chain=one_by_one: torch.stack([chain(one) for one in tensors]),
        )


def kornia_by_batch(images: torch.Tensor) -> Iterator[tuple[str, int, Run]]:
    try:
        from kornia import augmentation
    except ImportError:
        print("kornia is not installed: left out")
        return
    chain = augmentation.AugmentationSequential(
        augmentation.RandomResizedCrop((SIDE, SIDE), (0.08, 1.0)),
        augmentation.RandomHorizontalFlip(0.5),
        augmentation.ColorJitter(*JITTER, p=0.8),
        augmentation.RandomGrayscale(p=0.2),
        augmentation.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
        augmentation.RandomSolarize(p=0.2),
        augmentation.Normalize(*(torch.tensor(one) for one in IMAGENET)),
    )
    yield "kornia", N, lambda: chain(images.permute(0, 3, 1, 2).contiguous() / 255)


def seconds_per_image(run: Run, n: int) -> float:
    started = time.process_time()
    run()
    return (time.process_time() - started) / n


def main() -> None:
    torch.set_num_threads(1)
    print(describe())
    values = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
    images = torch.from_numpy(values)
    contestants = [
        *ours(images),
        *torchvision_one_by_one(images),
        *kornia_by_batch(images),
    ]
    for _, _, run in contestants:
        run()
    rounds = np.array(
        [
            [seconds_per_image(run, n) for _, n, run in contestants]
            for _ in range(ROUNDS)
        ]
    )
    rates = 1 / rounds.min(axis=0)
    print("| a view of each image | images a second | repscope is |\n|---|---|---|")
    for (name, _, _), rate in zip(contestants, rates, strict=True):
        print(f"| {name} | {rate:,.0f} | {rates[0] / rate:.1f} x as fast |")


if __name__ == "__main__":
    main()
