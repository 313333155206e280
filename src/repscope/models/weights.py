"""The numbers of a network as such: their fingerprint, and drawing them anew."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from repscope._checking import UsageError


def weights_fingerprint(state: Mapping[str, Any]) -> str:
    """Return "sha256:..." of all names, types, shapes and values of a state dictionary.

    Order, device and memory layout do not matter; entries that are no tensors are left
    out.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        # as bytes: NumPy has no bfloat16
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def reset_weights(module: nn.Module, name: str) -> None:
    """Draw all weights anew from torch's global generator, as each submodule does.

    Args:
        module: changed in place.
        name: what to call it in an error.

    Raises:
        UsageError: where a submodule has parameters but no `reset_parameters`; nothing
            is changed then.
    """
    resets = []
    for path, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None)
        reset = reset or getattr(part, "_reset_parameters", None)  # torch's attention
        if reset is not None:
            resets.append(reset)
        elif any(True for _ in part.parameters(recurse=False)):
            raise UsageError(
                f"encoder {name}: {path or 'the module'} cannot be drawn anew",
                found=f"{type(part).__name__} has parameters but no reset_parameters",
                fix="make the untrained network yourself and pass it as an encoder",
            )
    for reset in reversed(resets):  # what a module sets in its parts comes last
        reset()
