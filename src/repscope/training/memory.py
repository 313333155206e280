"""Is there memory for one step? Asked before the first image is read.

A process that takes more memory than there is may be killed without a word. Only the
least that a step surely needs is counted, so that nothing is refused that would work.
"""

import contextlib
import math
from pathlib import Path

import torch

from repscope import _environment
from repscope._checking import ResourceError
from repscope._distributed import n_ranks
from repscope.training.sections import LEAST_BATCH

_FLOAT32_BYTES = 4
# Every view is there as it was made, in the network's memory layout, and as the outputs
# of the first layer, which are larger.
_COPIES = 3
# A batch that surely fits leaves as much again for all other layers.
_ROOM = 2
# What is free by the kernel's account, and what a container or a batch job may have.
MEMORY_FILE = Path("/proc/meminfo")
LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def check_memory(batch_size: int, values: int, side: int, device: torch.device) -> None:
    """Raise ResourceError where a step surely needs more memory than there is.

    Args:
        batch_size: images in a step, of all processes.
        values: of all views of an image.
        side: of the largest of them, in pixels, for the message.
        device: of the networks.

    Raises:
        ResourceError: naming a batch size that fits.
    """
    available = available_bytes(device)
    of_image = values * _FLOAT32_BYTES * _COPIES
    share = math.ceil(batch_size / n_ranks())  # of one process
    if available is None or share * of_image <= available:
        return
    fitting = available * n_ranks() // (of_image * _ROOM)
    raise ResourceError(
        f"a step with {batch_size:,} images of {side:,} x {side:,} pixels needs "
        "more memory than there is",
        found=f"{available / 1e9:,.1f} GB",
        expected=f"at least {share * of_image / 1e9:,.1f} GB",
        fix=f"training.batch_size={2 ** (fitting.bit_length() - 1)}, or smaller images"
        if fitting >= LEAST_BATCH
        else "smaller images, such as data.size=224",
    )


def available_bytes(device: torch.device) -> int | None:
    """Return the memory that a device has for us; None where the system does not say.

    Of a GPU, it is all that it has: what is too much for what is free there ends in an
    error and not in the end of the process.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu":
        return None
    known = [_free_bytes(), *(_limit_in(file) for file in LIMIT_FILES)]
    return min((one for one in known if one is not None), default=None)


def _free_bytes() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in MEMORY_FILE.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _environment.memory_bytes()


def _limit_in(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        return int(file.read_text(encoding="ascii"))
    return None
