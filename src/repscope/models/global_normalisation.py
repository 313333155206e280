"""Batch normalisation with the statistics of all ranks' rows, on CPU and GPU.

torch's own (`SyncBatchNorm`) works on GPUs only. On one rank this is the usual layer.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope._distributed import n_ranks
from repscope._gathering import summed_over_ranks


@final
class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Normalises each channel by mean and variance over the rows of all ranks.

    Mean and population variance are taken in float32 or better, in two passes. The
    running variance has ddof 1, as in torch. Names in the state are those of
    `nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from 2 is right."""

    def forward(self, input: Float[Tensor, "n c ..."]) -> Float[Tensor, "n c ..."]:
        """Return the normalised maps or rows."""
        if not self.training or n_ranks() == 1:
            normalised: Tensor = super().forward(input)
            return normalised
        exact = input if input.dtype == torch.float64 else input.float()
        channels = exact.shape[1]
        others = [dim for dim in range(exact.ndim) if dim != 1]
        shape = (1, channels, *(1 for _ in others[1:]))
        n_own = exact.new_full((1,), exact.numel() / channels)
        sums = summed_over_ranks(torch.cat([exact.sum(dim=others), n_own]))
        n_all = sums[channels].detach()
        mean = sums[:channels] / n_all
        centred = exact - mean.view(shape)
        variance = summed_over_ranks(centred.square().sum(dim=others)) / n_all
        self._keep(mean.detach(), variance.detach() * n_all / (n_all - 1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        moved = centred * scale.view(shape)
        if self.affine:
            moved = moved + self.bias.view(shape)
        return moved.to(input.dtype)

    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        if self.running_mean is None or self.num_batches_tracked is None:
            return
        assert self.running_var is not None
        self.num_batches_tracked += 1
        weight = self.momentum
        if weight is None:
            weight = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def with_global_batch_norm(module: nn.Module) -> nn.Module:
    """Return the module with each batch normalisation taken over all ranks.

    Weights, statistics and names stay as they are; the module itself is changed, unless
    it is a single layer.

    Args:
        module: of any layers.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _taken_over(module)
    for name, part in list(module.named_children()):
        setattr(module, name, with_global_batch_norm(part))
    return module


def _taken_over(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> GlobalBatchNorm:
    whole = GlobalBatchNorm(
        layer.num_features,
        eps=layer.eps,
        momentum=layer.momentum,
        affine=layer.affine,
        track_running_stats=layer.track_running_stats,
        device="meta",
    )
    whole._parameters = layer._parameters
    whole._buffers = layer._buffers
    return whole.train(layer.training)
