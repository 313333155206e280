"""The process that test_interruptions.py ends: trains, and says where it is.

Call: child_run.py RUN THREADS [--resume] [--workers=N] [--set=KEY=VALUE]
[--slow-write=STEP]
"""

import argparse
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from repscope import cli
from repscope.training import checkpoint
from repscope.training.engine import train
from training.tiny_runs import recipe_with, tiny_images

# Long enough for the parent to act between two lines.
STEP_SECONDS = 0.05


def say(line):
    print(line, flush=True)


def told(snapshot):
    say(f"step {snapshot.step}")
    time.sleep(STEP_SECONDS)


def write_slowly(step):
    """Let the checkpoint of a step stop half-way, for longer than anyone waits."""
    original, name = checkpoint.write_together, checkpoint.checkpoint_name(step)

    def write_together(folder, files, need):
        def half(file):
            parts = []

            class Buffer:
                write = staticmethod(parts.append)

            files[name](Buffer)
            content = b"".join(parts)
            file.write(content[: len(content) // 2])
            file.flush()
            say(f"half of {name}")
            time.sleep(600)

        changed = {**files, name: half} if name in files else files
        return original(folder, changed, need)

    checkpoint.write_together = write_together


def work(arguments):
    recipe = None if arguments.resume else recipe_with(*arguments.set)
    say("begun")
    train(
        recipe,
        tiny_images(),
        arguments.run,
        resume=arguments.resume,
        workers=arguments.workers,
        observers=[told],
    )
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("threads", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--slow-write", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # a job in the background ignores it, and so do its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments.slow_write is not None:
        write_slowly(arguments.slow_write)
    # the command line's handlers and exit codes, around our own work
    cli._run = lambda words: work(arguments)
    return cli.main([])


if __name__ == "__main__":
    sys.exit(main())
