"""What every source of ready-made networks hands over, and how it is reached.

The libraries are optional, and some of them cannot be imported although they are
installed: torchvision stops when it was built for another torch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from repscope._checking import MissingExtraError, RepscopeError, ResourceError
from repscope._images import Preprocess
from repscope.models.layer_outputs import Pool

# What an import raises: it is not there, or its operators do not fit torch.
IMPORT_FAULTS = (ImportError, RuntimeError, OSError)
# What a download raises: no network, no such file, no permission, a broken copy.
DOWNLOAD_FAULTS = (OSError, RuntimeError, ValueError)
# torchvision is compiled against one torch: of its version and of its CUDA or CPU.
_PAIRING = (
    "the torchvision made for this torch (0.28 for 2.13, 0.29 for 2.14), from the same "
    "index: one built for CUDA misses `torchvision::nms` beside a torch for the CPU"
)
_PAIRING_FIX = (
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu, "
    "or .../whl/cu130 for a GPU; both in one command"
)
# Characters of a library's message.
REASON_LENGTH = 200


@dataclass(frozen=True)
class NamedNetwork:
    """A network that a library made, with what the library says about its use.

    Args:
        module: without its classifier; it returns one vector per image.
        preprocess: what the network was trained with.
        layers: name → path of the submodule, shallow to deep; its output not included.
        pool: what turns its layers into vectors: "gap" for maps, "cls" for tokens.
        nonnegative: whether what it returns cannot be negative; None is unknown.
        facts: library, version and weights.
        rebuild: makes the same network with other weights, from torch's generator.
    """

    module: nn.Module
    preprocess: Preprocess
    layers: Mapping[str, str]
    pool: Pool
    rebuild: Callable[[], nn.Module]
    nonnegative: bool | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def importing(library: str, extra: str) -> Iterator[None]:
    """Turn what the import of an optional library raises into an error that helps.

    Args:
        library: as pip names it.
        extra: of repscope, that brings it.

    Raises:
        MissingExtraError: where the library, or one that it needs, is not installed.
        ResourceError: where it is there and does not fit torch.
    """
    try:
        yield
    except RepscopeError:
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or library).partition(".")[0]
        needs = "" if missing == library else f"{library} needs "
        raise MissingExtraError(f"{needs}{missing} is not installed", extra) from error
    except IMPORT_FAULTS as error:
        reason = _reason(error)
        is_pair = "torchvision" in f"{library} {reason}"
        raise ResourceError(
            f"{library} is installed but cannot be imported: {reason}",
            found=f"torch {torch.__version__}",
            expected=_PAIRING if is_pair else f"a {library} that fits it",
            fix=_PAIRING_FIX if is_pair else f'pip install -U "repscope[{extra}]"',
        ) from error


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Turn what a failed download raises into an error that names the network.

    Raises:
        ResourceError: where the weights could not be had.
    """
    try:
        yield
    except RepscopeError:
        raise
    except DOWNLOAD_FAULTS as error:
        raise ResourceError(
            f"{name}: its weights could not be downloaded ({_reason(error)})",
            fix="check the name and the connection, then run again",
        ) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator as from a fresh one; it is restored after."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def untrained_fact(seed: int) -> str:
    """Return what is said of the training of a network that had none."""
    return f"none: weights drawn from seed {seed}"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:REASON_LENGTH]
