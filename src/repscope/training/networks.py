"""The networks of a training as one module: from views to all that an objective sees.

One module, because DistributedDataParallel sums gradients of one forward pass.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope.models.backbones import Backbone, build
from repscope.models.global_normalisation import with_global_batch_norm
from repscope.models.heads import build_head
from repscope.models.normalisation import with_split_batch_norm
from repscope.models.predictors import build_predictor
from repscope.training.preparation import Prepared

Views = tuple[Float[Tensor, "n _"], ...]


class Outputs(NamedTuple):
    """What the networks made of each view.

    Args:
        h: representations.
        z: projections.
        predictions: of the predictor; () where there is none.
    """

    h: Views
    z: Views
    predictions: Views


class Networks(nn.Module):
    """Backbone, head and, where an objective has one, predictor.

    Args:
        backbone: from images to h.
        head: from h to z.
        predictor: from z to predictions; None for none.
    """

    def __init__(
        self, backbone: Backbone, head: nn.Module, predictor: nn.Module | None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.predictor = predictor

    def forward(self, views: Sequence[Float[Tensor, "n c _ _"]]) -> Outputs:
        """Return what becomes of each view.

        Each view passes alone: its batch statistics are its own, as in the authors'
        code of VICReg and Barlow Twins (SimCLR's joins the views). Views smaller than
        the first, as of multi-crop, leave the running statistics alone: an encoder is
        used on whole images, not on small crops of them.
        """
        h, z, predictions = [], [], []
        for view in views:
            is_small = view.shape[-1] < views[0].shape[-1]
            with _statistics_kept(self) if is_small else contextlib.nullcontext():
                h.append(self.backbone(view))
                z.append(self.head(h[-1]))
                if self.predictor is not None:
                    predictions.append(self.predictor(z[-1]))
        return Outputs(tuple(h), tuple(z), tuple(predictions))


@contextlib.contextmanager
def _statistics_kept(networks: nn.Module) -> Iterator[None]:
    """Normalise batches as usual, and leave the running statistics as they are."""
    layers = [
        one
        for one in networks.modules()
        if isinstance(one, nn.modules.batchnorm._BatchNorm)
    ]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, usual, strict=True):
            layer.momentum = momentum


def built(prepared: Prepared, *, is_target: bool = False) -> Networks:
    """Return the networks of a recipe on the CPU, with their first weights.

    Args:
        prepared: what is trained.
        is_target: whether they only follow others: without a predictor, and without
            gradients.
    """
    training = prepared.recipe.training
    backbone = build(prepared.architecture, seed=training.seed)
    head = build_head(prepared.head, backbone.feature_dim, seed=training.seed)
    predictor = None
    if prepared.predictor is not None and not is_target:
        predictor = build_predictor(
            prepared.predictor,
            width_of(head, backbone.feature_dim),
            seed=training.seed,
            n_classes=prepared.n_classes,
        )
    networks = Networks(backbone, head, predictor)
    if training.batch_norm == "global":
        with_global_batch_norm(networks)
    elif training.bn_splits > 1:
        with_split_batch_norm(networks, training.bn_splits)
    return networks.requires_grad_(False) if is_target else networks


def width_of(module: nn.Module, d_in: int) -> int:
    """Return how wide the output of a head or predictor is.

    Args:
        module: of dense layers, or none.
        d_in: width of its input.
    """
    dense = [one for one in module.modules() if isinstance(one, nn.Linear)]
    return dense[-1].out_features if dense else d_in


@torch.no_grad()
def follow_(target: Networks, trained: Networks, momentum: float) -> None:
    """Move the weights of a target towards those it follows.

    theta_target <- momentum theta_target + (1 - momentum) theta, for all parameters of
    backbone and head. Where both are equal they stay so, to the bit.

    Args:
        target: is changed.
        trained: what it follows.
        momentum: 0 to 1.
    """
    pairs = [
        (followed, one)
        for part in ("backbone", "head")
        for followed, one in zip(
            target.get_submodule(part).parameters(),
            trained.get_submodule(part).parameters(),
            strict=True,
        )
    ]
    torch._foreach_lerp_(
        [followed for followed, _ in pairs],
        [one.detach() for _, one in pairs],
        1 - momentum,
    )
