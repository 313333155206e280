"""How do several processes train one encoder?

``torchrun --nproc-per-node N -m repscope train ...`` starts N processes that share each
batch. Every one of them runs the same loop; the first also writes, shows and watches.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as distributed

from repscope._checking import ResourceError, UsageError
from repscope._distributed import n_ranks
from repscope._gathering import greatest_over_ranks
from repscope.models.devices import device_of

# How long a process waits for the others: a look at a large encoder takes minutes.
PATIENCE = datetime.timedelta(minutes=10)
# What torchrun tells each process that it starts.
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOCAL_RANK = "LOCAL_RANK"
# How the backends say that another process is gone.
_GONE = ("closed by peer", "connection reset", "broken pipe", "timed out", "nccl")


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that torchrun has started, and leave them at the end.

    Where there is one process, or the caller has joined already, nothing happens.

    Args:
        device: as for `train`: "cuda" talks by NCCL, "cpu" by Gloo.

    Raises:
        ResourceError: where the others cannot be reached.
    """
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) < 2
    if is_alone or distributed.is_initialized() or not set(_TOLD) <= set(os.environ):
        yield
        return
    where = device_of_rank(device)
    backend = "nccl" if where.type == "cuda" else "gloo"
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"the {os.environ['WORLD_SIZE']} processes of this job cannot meet: {error}"
        ) from error
    yield
    # After an error, closing would wait for those that wait for us.
    distributed.destroy_process_group()


def is_first() -> bool:
    """Return whether this is the first process of its job, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def device_of_rank(device: str) -> torch.device:
    """Return where the networks of this process are: of several GPUs, its own.

    Args:
        device: "auto" is a GPU where there is one.

    Raises:
        ResourceError: where there is no such device.
        UsageError: where there are more processes on a machine than it has GPUs.
    """
    where = device_of(device)
    place = os.environ.get(_LOCAL_RANK)
    if where.type != "cuda" or where.index is not None or place is None:
        return where
    if int(place) >= torch.cuda.device_count():
        raise UsageError(
            f"process {int(place) + 1} on this machine has no GPU of its own",
            found=f"{torch.cuda.device_count()} GPUs",
            fix=f"torchrun --nproc-per-node {torch.cuda.device_count()}",
        )
    return torch.device("cuda", int(place))


def agreed_to_end(
    is_stopped: bool, is_interrupted: bool, device: torch.device
) -> tuple[bool, bool]:
    """Return whether any process wants to stop, and whether any was interrupted.

    All processes end after the same step: one that went on alone would wait for ever.

    Args:
        is_stopped: whether an observer of this process wants to stop.
        is_interrupted: whether a signal came to it.
        device: of its networks.
    """
    asked = [int(is_stopped), int(is_interrupted)]
    stopped, interrupted = greatest_over_ranks(asked, device)
    return bool(stopped), bool(interrupted)


@contextlib.contextmanager
def peers_explained() -> Iterator[None]:
    """Say that another process has ended, where the backend only lost the connection.

    Raises:
        ResourceError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error).lower()
        if n_ranks() == 1 or not any(word in said for word in _GONE):
            raise
        raise ResourceError(
            "another process of this job has ended; what it says is the cause",
            found=str(error).splitlines()[0],
            fix="mend that, and go on with --resume",
        ) from error
