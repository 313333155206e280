"""What does a training step cost beyond forward, backward and the optimiser?

Run: python benchmarks/bench_training.py [THREADS]
Compares whole steps of `train` (order, two augmented views, loss, guard against what is
no number, rows of metrics, a checkpoint every 100 steps) with bare steps of the same
networks, loss and optimiser on one cached pair of views: small_conv on images of
32 x 32, batches of 256. The two take turns, step by step, in one run. Wall-clock and
CPU time; the latter is what other work on the machine changes less.
"""

import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import torch
from machine import describe

from repscope.data.imageset import ImageSet
from repscope.objectives.batch import ViewBatch
from repscope.training.beginning import begun
from repscope.training.engine import train
from repscope.training.recipe import Recipe, override
from repscope.training.snapshot import Stop

BATCH, SIDE, STEPS, WARMUP_STEPS = 256, 32, 110, 5
TARGET = 1.2


def bare_steps(recipe: Recipe, images: ImageSet) -> Iterator[None]:
    """Yield after each forward pass, backward pass and step of the optimiser."""
    run = begun(recipe, images, None, resume=False, device=torch.device("cpu"))
    learner, objective = run.learner, run.prepared.objective
    views = [torch.rand(BATCH, 3, SIDE, SIDE) for _ in range(2)]
    views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    while True:
        learner.optimiser.zero_grad(set_to_none=True)
        h = tuple(learner.backbone(view) for view in views)
        z = tuple(learner.head(one) for one in h)
        objective(ViewBatch(h, z)).total.backward()
        learner.optimiser.step()
        yield


def clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(describe(), f"| {torch.get_num_threads()} threads")
    generator = np.random.default_rng(0)
    shape = (BATCH * 20, SIDE, SIDE, 3)
    images = ImageSet.of(generator.integers(0, 256, shape, dtype=np.uint8))
    recipe = override(Recipe(), ["training.epochs=99", f"training.batch_size={BATCH}"])
    bare = bare_steps(recipe, images)
    whole_times, bare_times = [], []
    began = clocks()

    def take_turns(snapshot):
        nonlocal began
        middle = clocks()
        next(bare)
        end = clocks()
        whole_times.append(middle - began)
        bare_times.append(end - middle)
        began = clocks()
        return Stop("measured") if snapshot.step == STEPS else None

    with tempfile.TemporaryDirectory() as folder:
        train(recipe, images, f"{folder}/run", observers=[take_turns], device="cpu")
    print(f"{'':>12} {'whole':>9} {'bare':>9} {'ratio':>7}   target <= {TARGET}")
    for clock, name in enumerate(("wall clock", "CPU time")):
        whole_mean, bare_mean = (
            np.array(times)[WARMUP_STEPS:, clock].mean() * 1000
            for times in (whole_times, bare_times)
        )
        ratio = whole_mean / bare_mean
        print(f"{name:>12} {whole_mean:7.1f}ms {bare_mean:7.1f}ms {ratio:6.2f}x")


if __name__ == "__main__":
    main()
