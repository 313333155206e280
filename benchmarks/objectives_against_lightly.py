"""Do losses and gradients agree with lightly's, and which take longer?

Run: REPSCOPE_PEERS=PYTHON python benchmarks/objectives_against_lightly.py [REPEATS]
PYTHON has lightly (benchmarks/peers.txt). Two processes hold the same views, one with
repscope and one with lightly, and compute each loss and its gradient in turn, so that
whatever else the machine does falls on both. Times are the least CPU seconds of REPEATS
(by default 20) of loss and backward on one thread.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from peer_values import declare_torchvision_operators

Views = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[Views], torch.Tensor]
QUEUE, TIMED_QUEUE = 512, 65_536
# Name → rows and columns; the second table's are those of usual runs.
COMPARED = {
    "NT-Xent": (64, 32),
    "NT-Xent, temperature .01": (64, 32),
    "MoCo": (64, 32),
    "SupCon, each image a class": (64, 32),
    "Barlow Twins": (64, 32),
    "VICReg": (64, 32),
    "SwAV": (64, 32),
    "SimSiam": (64, 32),
    "BYOL": (64, 32),
}
TIMED = {
    "NT-Xent": (512, 128),
    "SupCon, 10 classes": (512, 128),
    "MoCo": (256, 128),
    "Barlow Twins": (512, 2_048),
    "VICReg": (512, 2_048),
    "SwAV": (512, 3_000),
    "SimSiam": (512, 2_048),
}
# lightly has no SupCon: with each image a class of its own it is NT-Xent, and with
# fewer classes it is timed against NT-Xent, which does less.
NOTE = "lightly has no SupCon: its NT-Xent stands beside it."


def views(name: str, n: int, m: int) -> Views:
    """Return two views of n rows, the same in both processes."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(n, m, generator=generator)
    first, second = (shared + torch.randn(n, m, generator=generator) for _ in range(2))
    if name == "SwAV":  # cosines with prototypes
        return (torch.tanh(first / 4), torch.tanh(second / 4))
    return first, second


def queue(size: int, m: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    keys = torch.randn(size, m, generator=generator)
    return torch.nn.functional.normalize(keys, dim=1)


@functools.cache
def ours(name: str, n: int, m: int, size: int) -> Loss:
    from repscope.objectives.assignment import SwAV
    from repscope.objectives.batch import ViewBatch
    from repscope.objectives.contrastive import NTXent
    from repscope.objectives.distillation import BYOL, SimSiam
    from repscope.objectives.momentum_contrast import MoCo
    from repscope.objectives.redundancy import BarlowTwins, VICReg
    from repscope.objectives.supervised_contrastive import SupCon

    def of(objective: Any, **others: Any) -> Loss:
        return lambda z: objective(ViewBatch((), z, **others)).total

    def predicted(objective: Any, *, targets: bool = False) -> Loss:
        def loss(z: Views) -> torch.Tensor:
            followed = tuple(view.detach() for view in z) if targets else ()
            return objective(ViewBatch((), z, predictions=z, targets=followed)).total

        return loss

    def moco() -> Loss:
        objective, memory = MoCo(queue=size), {"queue": queue(size, m)}

        def loss(z: Views) -> torch.Tensor:
            keys = (z[1].detach(),)
            return objective(ViewBatch((), z[:1], targets=keys, memory=memory)).total

        return loss

    made: dict[str, Callable[[], Loss]] = {
        "NT-Xent": lambda: of(NTXent()),
        "NT-Xent, temperature .01": lambda: of(NTXent(temperature=0.01)),
        "MoCo": moco,
        "SupCon, each image a class": lambda: of(SupCon(0.5), labels=torch.arange(n)),
        "SupCon, 10 classes": lambda: of(SupCon(0.5), labels=torch.arange(n) % 10),
        "Barlow Twins": lambda: of(BarlowTwins()),
        "VICReg": lambda: of(VICReg()),
        "SwAV": lambda: predicted(SwAV()),
        "SimSiam": lambda: predicted(SimSiam()),
        "BYOL": lambda: predicted(BYOL(), targets=True),
    }
    return made[name]()


@functools.cache
def lightlys(name: str, n: int, m: int, size: int) -> Loss:
    declare_torchvision_operators()
    from lightly import loss as losses

    def of(criterion: Any) -> Loss:
        return lambda z: criterion(*z)

    def moco() -> Loss:
        # It enqueues the keys of each call; the values compared are those of the first.
        criterion = losses.NTXentLoss(temperature=0.2, memory_bank_size=(size, m))
        criterion.memory_bank.bank = queue(size, m)
        return lambda z: criterion(z[0], z[1].detach())

    def swav(z: Views) -> torch.Tensor:
        return losses.SwaVLoss()(list(z), [])[0]

    cosine = losses.NegativeCosineSimilarity()

    def simsiam(z: Views) -> torch.Tensor:
        return (cosine(z[0], z[1].detach()) + cosine(z[1], z[0].detach())) / 2

    def nt_xent() -> Loss:
        return of(losses.NTXentLoss(temperature=0.5))

    made: dict[str, Callable[[], Loss]] = {
        "NT-Xent": nt_xent,
        "NT-Xent, temperature .01": lambda: of(losses.NTXentLoss(temperature=0.01)),
        "MoCo": moco,
        "SupCon, each image a class": nt_xent,
        "SupCon, 10 classes": nt_xent,
        "Barlow Twins": lambda: of(losses.BarlowTwinsLoss(lambda_param=0.0051)),
        "VICReg": lambda: of(losses.VICRegLoss()),
        "SwAV": lambda: swav,
        "SimSiam": lambda: simsiam,
        "BYOL": lambda: lambda z: 4 + 4 * simsiam(z),  # 2 - 2 cos, both directions
    }
    return made[name]()


def serve(whose: str, folder: Path) -> None:
    """Answer each line [name, rows, columns, queue] with a value and CPU seconds."""
    torch.set_num_threads(1)
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        name, n, m, size = json.loads(line)
        loss = {"ours": ours, "lightly": lightlys}[whose](name, n, m, size)
        z = tuple(view.requires_grad_() for view in views(name, n, m))
        started = time.process_time()
        value = loss(z)
        value.backward()
        seconds = time.process_time() - started
        none = torch.zeros_like(z[0])
        gradients = [(none if view.grad is None else view.grad).numpy() for view in z]
        np.save(folder / f"{whose}.npy", np.stack(gradients))
        answer = {"value": value.item(), "seconds": seconds}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Side:
    """One of the two processes."""

    def __init__(self, python: str, whose: str, folder: Path) -> None:
        command = [python, __file__, "--serve", whose, str(folder)]
        environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
        if whose != "ours":  # peers have packages of their own
            environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._gradient = folder / f"{whose}.npy"

    def run(self, *what: object) -> dict[str, float]:
        _written(self._process.stdin).write(json.dumps(what) + "\n")
        _written(self._process.stdin).flush()
        answer: dict[str, float] = json.loads(_written(self._process.stdout).readline())
        return answer

    def gradient(self) -> np.ndarray:
        return np.load(self._gradient)

    def close(self) -> None:
        _written(self._process.stdin).close()
        self._process.wait()


def _written(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # both are pipes
    return stream


def print_agreement(sides: tuple[Side, Side]) -> None:
    print("\n| loss | ours | lightly | difference | largest of gradients, relative |")
    print("|---|---|---|---|---|")
    for name, (n, m) in COMPARED.items():
        mine, theirs = (side.run(name, n, m, QUEUE)["value"] for side in sides)
        own, other = (side.gradient() for side in sides)
        apart = np.abs(own - other).max() / np.abs(other).max()
        print(
            f"| {name} | {mine:.6f} | {theirs:.6f} | {abs(mine - theirs):.1e} "
            f"| {apart:.1e} |"
        )


def print_times(sides: tuple[Side, Side], repeats: int) -> None:
    print("\n| loss and backward | rows x columns | ours, ms | lightly, ms | ratio |")
    print("|---|---|---|---|---|")
    for name, (n, m) in TIMED.items():
        runs = [
            [side.run(name, n, m, TIMED_QUEUE)["seconds"] for side in sides]
            for _ in range(repeats)
        ]
        mine, theirs = (1e3 * min(one) for one in zip(*runs, strict=True))
        print(
            f"| {name} | {n} x {m:,} | {mine:.1f} | {theirs:.1f} "
            f"| {mine / theirs:.2f} |"
        )


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
        return
    from machine import describe  # which imports repscope, as the peers cannot

    peers = os.environ.get("REPSCOPE_PEERS")
    if not peers:
        sys.exit("REPSCOPE_PEERS must name a python that has lightly")
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        pythons = {"ours": sys.executable, "lightly": peers}
        sides = tuple(
            Side(python, who, Path(folder)) for who, python in pythons.items()
        )
        assert len(sides) == 2
        print_agreement(sides)
        print_times(sides, repeats)
        print("\n" + NOTE)
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
