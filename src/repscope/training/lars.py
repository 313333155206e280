"""How is each layer given a step in proportion to its weights?

Large batches need large learning rates, with which some layers would leave their
weights behind in one step and others hardly move. LARS sets the length of each layer's
step by the length of its weights.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

_BUFFER = "momentum"
# A rate of 0 moves nothing, whatever the scale is.
_LEAST_RATE = 1e-30


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling, with momentum.

    For each parameter p with gradient g, its buffer m beginning at 0:

        d = g + weight_decay p
        q = trust |p| / |d|, or 1 where one of the two lengths is 0
        m <- momentum m + q d
        p <- p - learning_rate m

    With `clip`, q = min(trust |p| / (learning_rate |d|), 1): a step is as of SGD, but
    without momentum never longer than trust times the length of the weights.

    Parameters of one dimension or none, as biases and those of normalisation are, have
    neither decay nor scale: d = g and q = 1. Parameters without a gradient stay as they
    are, and so do their buffers. Nothing waits for the device.

    Args:
        parameters: what is trained, or groups of it.
        lr: the learning rate, from 0; named as torch's optimisers name it.
        momentum: from 0 to below 1.
        weight_decay: from 0.
        trust: eta of the source, above 0.
        clip: whether the scale only shortens steps.

    Source: You, Gitman & Ginsburg 2017, algorithm 1; facebookresearch/vicreg at
    4e12602, main_vicreg.py. As in the source's code. Differs from the source's paper in
    that the decay counts in the length of d, that parameters of one dimension are
    excluded, and that the learning rate multiplies the buffer and not what goes into
    it. `clip` is that of NVIDIA's LARC, which vturrisi/solo-learn uses.

    Misleads: a learning rate of SGD is too small for it by orders of magnitude, as the
    trust multiplies it; parameters of one dimension move by the learning rate alone.

    Example:
        >>> weight = nn.Parameter(torch.full((2, 2), 3.0))  # of length 6
        >>> weight.grad = torch.full((2, 2), 50.0)
        >>> Lars([weight], lr=1.0, trust=0.5).step()  # by half of its length
        >>> weight.tolist()
        [[1.5, 1.5], [1.5, 1.5]]
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        clip: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "clip": clip,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take a step by the gradients that the parameters hold.

        Args:
            closure: computes the loss and its gradients anew, before the step.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                direction = parameter.grad
                if parameter.ndim > 1:
                    decayed = direction.add(parameter, alpha=group["weight_decay"])
                    rate = group["lr"] if group["clip"] else None
                    direction = _scaled(decayed, parameter, group["trust"], rate)
                state = self.state[parameter]
                if _BUFFER not in state:
                    state[_BUFFER] = torch.zeros_like(parameter)
                state[_BUFFER].mul_(group["momentum"]).add_(direction)
                parameter.add_(state[_BUFFER], alpha=-group["lr"])
        return loss


def _scaled(
    direction: Shaped[Tensor, "*shape"],
    parameter: Shaped[Tensor, "*shape"],
    trust: float,
    rate: float | None,
) -> Shaped[Tensor, "*shape"]:
    """Return a direction whose length is `trust` times that of the parameter.

    With a rate, it is only shortened: so that rate times it is at most as long.
    """
    # Squares of half-precision numbers overflow at 256.
    ours, theirs = (
        torch.linalg.vector_norm(one, dtype=torch.promote_types(one.dtype, torch.float))
        for one in (parameter, direction)
    )
    has_ratio = (ours > 0) & (theirs > 0)
    scale = trust * ours / theirs
    if rate is not None:
        scale = (scale / max(rate, _LEAST_RATE)).clamp(max=1.0)
    ratio = torch.where(has_ratio, scale, torch.ones_like(ours))
    return direction.mul(ratio.to(direction.dtype))
