"""Batch normalisation in groups of rows, as if each group were on a device of its own.

Where a batch is normalised as a whole, a network can tell from the statistics which
rows belong together; momentum contrast must not be able to.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope._checking import InputError, UsageError

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


@final
class SplitBatchNorm1d(nn.BatchNorm1d):
    """`SplitBatchNorm2d` for vectors."""

    splits: int = 1

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return normalised features of the same shape."""
        if not self.training:
            return super().forward(features)
        return _split_normalised(self, features)


@final
class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of maps, alone in each of `splits` groups of rows.

    In training rows 0 to n/splits - 1 are one group, the next n/splits another, and so
    on; each is normalised by its own mean and population variance over rows and
    positions. Running statistics are the mean over groups of what each group alone
    would have made of them: (1 - m) old + m (mean of the groups' means), and the same
    with the groups' unbiased variances, m being the momentum, 0.1. In evaluation it is
    plain batch normalisation, and so are the names of its weights.

    Source: facebookresearch/moco, the CIFAR-10 demo, `SplitBatchNorm`. Differs from the
    source in the groups: there row i belongs to group i mod splits. Consecutive rows
    are what each of several devices gets.

    Raises:
        InputError: in `forward`, where the groups would be uneven or have one row.
    """

    splits: int = 1

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return normalised maps of the same shape."""
        if not self.training:
            return super().forward(maps)
        return _split_normalised(self, maps)


SplitBatchNorm = SplitBatchNorm1d | SplitBatchNorm2d


def with_split_batch_norm(module: nn.Module, splits: int) -> nn.Module:
    """Return a module whose every BatchNorm normalises groups of rows alone.

    Weights, statistics and training mode are kept, and the parameters are the same
    objects: an optimiser that has them still has them.

    Args:
        module: its parts are replaced in place; where it is a BatchNorm itself, another
            module is returned.
        splits: groups of a batch, from 1; 1 changes nothing.

    Raises:
        UsageError: where there is less than one group.
    """
    if splits < 1:
        raise UsageError(
            f"training.bn_splits is {splits}", expected="a whole number from 1"
        )
    if splits == 1:
        return module
    if isinstance(module, BatchNorm):
        return _split_twin(module, splits)
    for path, part in list(module.named_modules()):
        if path and isinstance(part, BatchNorm):
            module.set_submodule(path, _split_twin(part, splits))
    return module


def _split_twin(plain: BatchNorm, splits: int) -> SplitBatchNorm:
    """Return the split normalisation that shares a plain one's tensors."""
    sizes = (plain.num_features, plain.eps, plain.momentum, plain.affine)
    twin: SplitBatchNorm
    with torch.device("meta"):
        if isinstance(plain, nn.BatchNorm1d):
            twin = SplitBatchNorm1d(*sizes)
        else:
            twin = SplitBatchNorm2d(*sizes)
    twin.weight, twin.bias = plain.weight, plain.bias
    twin.running_mean, twin.running_var = plain.running_mean, plain.running_var
    twin.num_batches_tracked = plain.num_batches_tracked
    twin.splits = splits
    twin.training = plain.training
    return twin


def _split_normalised(
    norm: SplitBatchNorm, values: Float[Tensor, "n ..."]
) -> Float[Tensor, "n ..."]:
    """Return values normalised group by group; running statistics are changed."""
    _check_groups(len(values), norm.splits)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    groups = values.chunk(norm.splits)
    means = [norm.running_mean.clone() for _ in groups]
    variances = [norm.running_var.clone() for _ in groups]
    outputs = [
        nn.functional.batch_norm(
            group,
            mean,
            variance,
            norm.weight,
            norm.bias,
            training=True,
            momentum=norm.momentum,
            eps=norm.eps,
        )
        for group, mean, variance in zip(groups, means, variances, strict=True)
    ]
    with torch.no_grad():
        norm.running_mean.copy_(torch.stack(means).mean(dim=0))
        norm.running_var.copy_(torch.stack(variances).mean(dim=0))
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return torch.cat(outputs)


def _check_groups(rows: int, splits: int) -> None:
    if rows % splits:
        raise InputError(
            f"training.bn_splits = {splits} does not divide a batch of {rows} images",
            expected="groups of one size",
            fix=f"choose training.batch_size = {max(2, rows // splits) * splits}, or "
            "another training.bn_splits",
        )
    if rows < 2 * splits:
        raise InputError(
            f"training.bn_splits = {splits} leaves one image of {rows} in each group",
            expected="at least 2 images in each",
            fix=f"raise training.batch_size to {2 * splits} or more",
        )
