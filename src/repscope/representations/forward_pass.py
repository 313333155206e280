"""A network over images that fit into memory, without leaving a trace in it."""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor, nn

from repscope._arrays import host
from repscope._checking import ResourceError, UsageError
from repscope.models.devices import device_of
from repscope.models.encoder import Encoder, append_planes, normalised
from repscope.models.layer_outputs import Pool

_log = logging.getLogger("repscope")


@contextlib.contextmanager
def evaluating(module: nn.Module, device: str | torch.device) -> Iterator[torch.device]:
    """Yield the device, the module on it in evaluation mode; as before at the end.

    Raises:
        UsageError: for a device that torch does not know.
        ResourceError: for one that cannot be used here.
    """
    before = {part: part.training for part in module.modules()}
    places = {tensor.device for tensor in _tensors(module)}
    home = next(iter(places), torch.device("cpu"))
    place = home if device == "auto" else device_of(device)
    if device == "auto" and torch.cuda.is_available() and len(places) < 2:
        place = torch.device("cuda")
    moves = len(places) == 1 and place != home
    try:
        if moves:
            module.to(place)
        module.eval()
        with torch.inference_mode(), _full_precision():
            yield place
    finally:
        for part, flag in before.items():
            part.training = flag
        if moves:
            module.to(home)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(module.parameters(), module.buffers())


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Switch TF32 off, so that features of a GPU agree with those of a CPU."""
    cudnn: Any = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


@dataclass(eq=False)
class Forward:
    """The forward pass over batches that fit into memory.

    Args:
        encoder: the network.
        layers: whose features are kept.
        pool: how maps become vectors.
        device: where it runs.
        batch_size: images at once; halved where memory ends.

    Raises:
        UsageError: for a batch size below 1.
    """

    encoder: Encoder
    layers: tuple[str, ...]
    pool: Pool
    device: torch.device
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            found = str(self.batch_size)
            raise UsageError(
                "batch_size: images per pass", found=found, expected=">= 1"
            )

    def __call__(
        self,
        inputs: Shaped[Tensor, "m _ _ _"],
        planes: UInt8[np.ndarray, "m b"] | None,
    ) -> dict[str, Float32[np.ndarray, "m _"]]:
        """Return the features of some images, layer by layer.

        Raises:
            ResourceError: where not even one image fits into memory.
        """
        while True:
            try:
                return self._in_parts(inputs, planes)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise ResourceError(
                        f"out of memory on {self.device} with a single image",
                        found=str(error).strip().splitlines()[0][:120],
                        fix="embed on another device, or fewer layers",
                    ) from error
            # outside of the handler, which would keep the failed tensors alive
            self._halve(len(inputs))

    def _halve(self, count: int) -> None:
        self.batch_size = max(1, min(self.batch_size, count) // 2)
        _log.warning("out of memory: going on in batches of %d", self.batch_size)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _in_parts(
        self,
        inputs: Shaped[Tensor, "m _ _ _"],
        planes: UInt8[np.ndarray, "m b"] | None,
    ) -> dict[str, Float32[np.ndarray, "m _"]]:
        parts = []
        for start in range(0, len(inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            bits = None if planes is None else planes[part]
            parts.append(self._features(inputs[part], bits))
        return {
            name: np.concatenate([part[name] for part in parts]) for name in self.layers
        }

    def _features(
        self,
        inputs: Shaped[Tensor, "m _ _ _"],
        planes: UInt8[np.ndarray, "m b"] | None,
    ) -> dict[str, Float32[np.ndarray, "m _"]]:
        images = self._images(inputs.to(self.device, non_blocking=True))
        if planes is not None:
            images = append_planes(images, planes)
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.encoder.forward_features(images, self.layers, self.pool)
        return {name: host(values.float()) for name, values in features.items()}

    def _images(self, inputs: Shaped[Tensor, "m _ _ _"]) -> Float[Tensor, "m c h w"]:
        if inputs.dtype == torch.uint8:
            inputs = normalised(inputs, self.encoder.preprocess)
        weights = next(self.encoder.module.parameters(), inputs)
        return inputs.to(weights.dtype if weights.is_floating_point() else inputs.dtype)


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in text
        or "out of memory" in text
    )
