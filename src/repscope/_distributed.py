"""How ranks of a job hand arrays to each other: plain integers and bytes, no pickle.

Every rank gets the same bytes in the order of the ranks, so that what is computed from
them is equal on all of them, bit for bit. Where no job is running there is one rank,
and torch is not even imported.
"""

import sys
from typing import Any

import numpy as np
from jaxtyping import Int

# Bytes that one broadcast carries at most.
CHUNK_BYTES = 2**28


def n_ranks() -> int:
    """Return the number of ranks; 1 where torch.distributed is not initialised."""
    distributed = _torch_distributed()
    return distributed.get_world_size() if distributed else 1


def rank() -> int:
    """Return which rank this is, from 0."""
    distributed = _torch_distributed()
    return distributed.get_rank() if distributed else 0


def gathered_integers(
    values: Int[np.ndarray, " k"],
) -> Int[np.ndarray, "ranks k"]:
    """Return the integers of all ranks, one row for each.

    Args:
        values: as many on every rank.
    """
    distributed = _torch_distributed()
    if distributed is None:
        return values[None, :]
    import torch

    own = torch.from_numpy(values.astype(np.int64)).to(_device())
    rows = [torch.empty_like(own) for _ in range(n_ranks())]
    distributed.all_gather(rows, own)
    return np.stack([row.cpu().numpy() for row in rows])


def broadcast_bytes(data: bytes, source: int, size: int) -> bytes:
    """Return the bytes that one rank holds, on all of them.

    Args:
        data: on the source rank; of the others it is not looked at.
        source: the rank that they come from.
        size: how many there are, known to all.
    """
    distributed = _torch_distributed()
    if distributed is None:
        return data
    import torch

    buffer = torch.empty(size, dtype=torch.uint8)
    if rank() == source:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    for start in range(0, size, CHUNK_BYTES):
        piece = buffer[start : start + CHUNK_BYTES]
        sent = piece.to(_device())
        distributed.broadcast(sent, src=source)
        piece.copy_(sent)
    return buffer.numpy().tobytes()


def _torch_distributed() -> Any:
    """Return torch.distributed where a job of several ranks is set up; else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available():
        return None
    return distributed if distributed.is_initialized() else None


def _device() -> str:
    """Return where collectives expect tensors: NCCL takes those of a GPU only."""
    distributed = _torch_distributed()
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
