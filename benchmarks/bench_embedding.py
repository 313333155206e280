"""What does embedding cost beside the bare forward pass?

Run: OMP_NUM_THREADS=1 python benchmarks/bench_embedding.py
Compares `embed` (decoding ahead, normalising, pooling every layer, ids, thumbnails)
with a loop of forward passes over ready float batches, small_conv on 32 x 32 pictures
in memory, batch 256. All run in turn in one process; images per second are the most of
several rounds, ratios (bare / embed) the median over the rounds, of wall time and, in
brackets, of processor time.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from machine import describe

from repscope._images import Preprocess
from repscope.data.imageset import ImageSet
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import Encoder, normalised
from repscope.representations.embed import embed

N, SIDE, BATCH, REPEATS = 4096, 32, 256, 5


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    print(describe())
    pixels = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
    images = ImageSet.of(pixels, labels=np.arange(N) % 10)
    preprocess = Preprocess(SIDE, mean=(0.5,), std=(0.25,))
    module = build(Architecture("small_conv")).eval()
    encoder = Encoder.of(module, preprocess)
    ready = normalised(torch.from_numpy(pixels), preprocess).contiguous()

    def bare(batches: tuple[torch.Tensor, ...]) -> None:
        with torch.inference_mode():
            for batch in batches:
                module(batch)

    plain = ready.split(BATCH)
    last = ready.contiguous(memory_format=torch.channels_last).split(BATCH)
    runs: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(plain),
        "bare, channels last": lambda: bare(last),
        "embed, last layer": lambda: embed(encoder, images, batch_size=BATCH),
        "embed, all layers": lambda: embed(
            encoder, images, layers="all", batch_size=BATCH
        ),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(REPEATS):  # in turn, so that a busy machine slows all alike
        for name, run in runs.items():
            taken[name].append(seconds(run))
    rounds = {name: np.array(times) for name, times in taken.items()}
    print(f"{'':>20} {'images/s':>9} {'of bare':>16} {'of channels last':>17}")
    for name, times in rounds.items():
        shares = [
            np.median(rounds[base] / times, axis=0)
            for base in ("bare", "bare, channels last")
        ]
        text = "".join(f"  {wall:6.2f} ({cpu:5.2f})" for wall, cpu in shares)
        print(f"{name:>20} {N / times[:, 0].min():9,.0f} {text}")


if __name__ == "__main__":
    main()
