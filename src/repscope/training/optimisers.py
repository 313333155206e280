"""Which rule turns gradients into a step?

The learning rate is set before each step from `schedules`; nothing of it is kept here.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from repscope.training.lars import Lars
from repscope.training.sections import OptimiserSection

# beta_2 and epsilon of Adam, as its authors give them (Kingma & Ba 2015, algorithm 1).
SECOND_MOMENT_DECAY = 0.999
EPSILON = 1e-8


def build_optimiser(
    section: OptimiserSection, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe, over the parameters that want gradients.

    Weight decay acts on all parameters, biases and normalisation included, unless
    `section.exclude_1d` says otherwise. Which those are is told by their dimensions, of
    which they have one or none, and not by their names, which differ from network to
    network: so do the authors of Barlow Twins and VICReg. Tokens and positions of a
    transformer, which have three, are decayed.

    Args:
        section: its name, momentum, weight decay and what belongs to them.
        parameters: those that need no gradient, as in frozen heads, are left out.
    """
    trained = [one for one in parameters if one.requires_grad]
    rate, decay = section.learning_rate, section.weight_decay
    momentum = section.momentum
    if section.name == "lars":
        return Lars(
            trained,
            lr=rate,
            momentum=momentum,
            weight_decay=decay,
            trust=section.trust,
            clip=section.clip,
        )
    groups = _groups(trained, decay) if section.exclude_1d else trained
    if section.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=rate,
            momentum=momentum,
            weight_decay=decay,
            nesterov=section.nesterov,
        )
    rule = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[section.name]
    betas = (momentum, SECOND_MOMENT_DECAY)
    return rule(groups, lr=rate, betas=betas, eps=EPSILON, weight_decay=decay)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def _groups(trained: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Return the parameters with weight decay, and those of one dimension without."""
    matrices = [one for one in trained if one.ndim > 1]
    vectors = [one for one in trained if one.ndim <= 1]
    groups = ((matrices, decay), (vectors, 0.0))
    return [{"params": of, "weight_decay": one} for of, one in groups if of]
