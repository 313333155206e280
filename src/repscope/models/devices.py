"""Where do networks run? From a name to a device that can be used here."""

import torch

from repscope._checking import ResourceError, UsageError

EXPECTED = "auto, cpu, cuda, cuda:0, cuda:1, ..."
# A device of torch on which tensors have shapes and no values.
_WITHOUT_VALUES = "meta"


def device_of(name: str | torch.device) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises:
        UsageError: for a name that torch does not know.
        ResourceError: where there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = str(name)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device {text!r}", expected=EXPECTED) from error
    if device.type == _WITHOUT_VALUES:
        raise UsageError(f"device {text!r} holds no numbers", expected=EXPECTED)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            f"device {text!r}: torch finds no GPU here", fix="leave it out, or say cpu"
        )
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ResourceError(
            f"device {text!r}: torch cannot use it here",
            found=reason[0][:120],
            fix="leave it out, or say cpu",
        ) from error
    return device
