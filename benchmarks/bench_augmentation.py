"""How many images a second does one core augment, beside torchvision and kornia?

Run: python benchmarks/bench_augmentation.py
256 images of 32 x 32 pixels, SimCLR at strength 1 with blur and solarisation, each
image with its own parameters. CPU seconds of one thread, the least of rounds that take
the contestants in turn: what else the machine does then weighs on all of them alike.
To reach: 2 x kornia by the batch. REPSCOPE_PEERS names a python that has kornia; it
runs there, and without it that row is left out.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
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
# Runs in the peers' python: for each line that it is sent, it augments the batch once
# and tells the CPU seconds.
KORNIA = """
import sys, time
import numpy as np, torch
from kornia import augmentation
torch.set_num_threads(1)
side, n, jitter, mean, std = {arguments}
values = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)
images = torch.from_numpy(values)
chain = augmentation.AugmentationSequential(
    augmentation.RandomResizedCrop((side, side), (0.08, 1.0)),
    augmentation.RandomHorizontalFlip(0.5),
    augmentation.ColorJitter(*jitter, p=0.8),
    augmentation.RandomGrayscale(p=0.2),
    augmentation.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
    augmentation.RandomSolarize(p=0.2),
    augmentation.Normalize(torch.tensor(mean), torch.tensor(std)),
)
for line in sys.stdin:
    started = time.process_time()
    chain(images.permute(0, 3, 1, 2).contiguous() / 255)
    print(time.process_time() - started, flush=True)
"""


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


@contextlib.contextmanager
def kornia_by_batch() -> Iterator[list[tuple[str, Callable[[], float]]]]:
    """Give kornia's seconds per image, from a process that waits between rounds."""
    peers = os.environ.get("REPSCOPE_PEERS")
    if not peers:
        print("REPSCOPE_PEERS names no python that has kornia: left out")
        yield []
        return
    script = KORNIA.format(arguments=repr((SIDE, N, JITTER, *IMAGENET)))
    # Not inherited: peers have packages of their own.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with subprocess.Popen(
        [peers, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def seconds() -> float:
            print(file=asked, flush=True)
            return float(told.readline()) / N

        yield [("kornia", seconds)]
        asked.close()


def seconds_per_image(run: Run, n: int) -> float:
    started = time.process_time()
    run()
    return (time.process_time() - started) / n


def main() -> None:
    torch.set_num_threads(1)
    print(describe())
    values = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
    images = torch.from_numpy(values)
    here = [*ours(images), *torchvision_one_by_one(images)]
    with kornia_by_batch() as there:
        contestants = [
            (name, partial(seconds_per_image, run, n)) for name, n, run in here
        ] + there
        for _, seconds in contestants:
            seconds()
        rounds = np.array(
            [[seconds() for _, seconds in contestants] for _ in range(ROUNDS)]
        )
    rates = 1 / rounds.min(axis=0)
    print("| a view of each image | images a second | repscope is |\n|---|---|---|")
    for (name, _), rate in zip(contestants, rates, strict=True):
        print(f"| {name} | {rate:,.0f} | {rates[0] / rate:.1f} x as fast |")


if __name__ == "__main__":
    main()
