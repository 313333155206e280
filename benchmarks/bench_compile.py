"""Where does compiling networks pay? Time to compile; of a step, before and after.

Run: python benchmarks/bench_compile.py [THREADS]
Whole steps of a learner (forward, loss, backward, Adam) on cached views of 32 x 32,
SimCLR with batches of 256, eager and with `training.compile`, in turn.
"""

import sys
import time

import numpy as np
import torch
from machine import describe

from repscope.data.imageset import ImageSet
from repscope.training.batch_views import views_of_batch
from repscope.training.batches import batches
from repscope.training.beginning import begun
from repscope.training.recipe import Recipe, override

ENCODERS = {
    "small_conv": (),
    "res_lh": ("encoder.width=48",),
    "vit": ("encoder.depth=2", "encoder.width=96"),
}
BATCH, STEPS = 256, 6


def stepper(*words):
    """Return a function that takes a step on cached views."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8)
    recipe = override(Recipe(), ["training.epochs=1", f"training.batch_size={BATCH}"])
    device = torch.device("cpu")
    run = begun(
        override(recipe, words),
        ImageSet.of(pixels),
        None,
        resume=False,
        device=device,
    )
    batch = next(batches(run.prepared.images, run.prepared.stored, run.plan))
    views = views_of_batch(batch, run.prepared, device)
    return lambda: run.learner.take_step(batch, views, learning_rate=1e-3)


def seconds(step):
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(describe(), f"| {torch.get_num_threads()} threads")
    print(
        f"{'encoder':>12} {'first step':>11} {'eager':>9} {'compiled':>9} {'ratio':>7}"
    )
    for name, words in ENCODERS.items():
        words = (f"encoder.name={name}", *words)
        eager, compiled = stepper(*words), stepper(*words, "training.compile=true")
        eager()
        first = seconds(compiled)
        compiled()
        turns = np.array([[seconds(eager), seconds(compiled)] for _ in range(STEPS)])
        before, after = np.median(turns, axis=0) * 1000
        print(
            f"{name:>12} {first:10.1f}s {before:7.0f}ms {after:7.0f}ms "
            f"{after / before:6.2f}x"
        )


if __name__ == "__main__":
    main()
