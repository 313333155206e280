"""On how many images a second does SimCLR train, from pixels to weights, and lightly's?

Run: REPSCOPE_PEERS=PYTHON python benchmarks/bench_simclr.py [BACKBONE] [THREADS]
BACKBONE is small_conv (default) or resnet18; REPSCOPE_PEERS names a python that has
lightly. Images of 32 x 32 in memory, batches of 256, the full protocol of SimCLR with
blur, two views, projection head, NT-Xent, Adam. Ours is `train` with all it does;
lightly's is its own example: SimCLRTransform(input_size=32) in a DataLoader with two
workers, SimCLRProjectionHead, NTXentLoss. The backbone is the same network, in the same
memory layout. The two take turns, in blocks of steps, in one run.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH, SIDE, BLOCK, BLOCKS, WARMUP = 256, 32, 20, 3, 4
N_IMAGES = BATCH * 12
WORKERS = 2
FEWER = {"resnet18": (2, 2)}  # steps in a block, blocks; warm-up is then one step


def pixels() -> np.ndarray:
    """Return smooth coloured pictures: noise would flatter whoever decodes less."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (N_IMAGES, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def warmup_of(backbone: str) -> int:
    return 1 if backbone in FEWER else WARMUP


def ours(backbone: str, steps: int) -> float:
    """Return the seconds of so many steps of `train`, after a few others."""
    from repscope.data.imageset import ImageSet
    from repscope.training.engine import train
    from repscope.training.recipe import Recipe, override
    from repscope.training.snapshot import Stop

    words = [
        "augmentation.protocol=simclr",
        "data.size=32",
        f"encoder.name={backbone}",
        "training.epochs=9999",
        f"training.batch_size={BATCH}",
        "optimiser.learning_rate=1e-3",
    ]
    marks = {}
    warmup = warmup_of(backbone)

    def observe(snapshot):
        marks[snapshot.step] = time.perf_counter()
        return Stop("measured") if snapshot.step == warmup + steps else None

    with tempfile.TemporaryDirectory() as folder:
        train(
            override(Recipe(), words),
            ImageSet.of(pixels()),
            f"{folder}/run",
            observers=[observe],
            device="cpu",
        )
    return marks[warmup + steps] - marks[warmup]


def theirs(backbone: str, steps: int) -> float:
    """Return the seconds of so many steps of lightly's example; run by the peer."""
    import torch
    from torch import nn

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Pictures(Dataset):
        def __init__(self):
            self.images = [Image.fromarray(one) for one in pixels()]
            self.transform = SimCLRTransform(input_size=SIDE)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, row):
            return self.transform(self.images[row])

    network, width = peer_backbone(backbone)
    network = network.to(memory_format=torch.channels_last)
    head = SimCLRProjectionHead(width, width, 128)
    loss_of = NTXentLoss(temperature=0.5)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    loader = DataLoader(
        Pictures(),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    done, began, warmup = 0, 0.0, warmup_of(backbone)
    while True:
        for views in loader:
            both = [
                view.contiguous(memory_format=torch.channels_last) for view in views[:2]
            ]
            loss = loss_of(*(head(network(view)) for view in both))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            assert isinstance(network, nn.Module)
            done += 1
            if done == warmup:
                began = time.perf_counter()
            if done == warmup + steps:
                return time.perf_counter() - began


def peer_backbone(name: str):
    """Return the network of `repscope.models`, written out, and its width."""
    import torch
    from torch import nn

    def block(inputs, outputs, stride):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    if name == "small_conv":
        plan = [(3, 32, 2), (32, 64, 2), (64, 128, 2), (128, 128, 1)]
        layers = [block(*one) for one in plan]
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*layers, pooled), 128
    import torchvision

    network = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    assert sum(one.numel() for one in network.parameters()) == 11_168_832
    return network.to(torch.float32), 512


def main() -> None:
    backbone = sys.argv[1] if len(sys.argv) > 1 else "small_conv"
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    steps, blocks = FEWER.get(backbone, (BLOCK, BLOCKS))
    peers = os.environ.get("REPSCOPE_PEERS")
    from machine import describe

    print(describe(), f"| {threads} threads, {WORKERS} workers for lightly")
    speeds = {"repscope": [], "lightly": []}
    pythons = {"repscope": sys.executable, "lightly": peers}
    for _ in range(blocks):
        for name, python in pythons.items():
            if python is None:
                continue
            command = [python, __file__, "--as", name, backbone, str(steps)]
            environment = os.environ | {
                "OMP_NUM_THREADS": str(threads),
                "OMP_WAIT_POLICY": "PASSIVE",
            }
            printed = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            ).stdout
            speeds[name].append(BATCH * steps / float(printed.split()[-1]))
    for name, found in speeds.items():
        if found:
            rates = ", ".join(f"{one:,.0f}" for one in found)
            print(f"{name:>9} {np.median(found):9,.0f} images/s  ({rates})")
    if speeds["lightly"]:
        ratio = np.median(speeds["repscope"]) / np.median(speeds["lightly"])
        print(f"{'ratio':>9} {ratio:9.2f} x")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        sys.path.insert(0, str(Path(__file__).parent))
        take = {"repscope": ours, "lightly": theirs}[sys.argv[2]]
        print(take(sys.argv[3], int(sys.argv[4])))
    else:
        main()
