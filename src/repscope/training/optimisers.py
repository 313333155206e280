"""Which rule turns gradients into a step?

The learning rate is set before each step from `schedules`; nothing of it is kept here.
"""

from collections.abc import Iterable

import torch
from torch import nn

from repscope.training.recipe import OptimiserSection

# beta_2 and epsilon of Adam, as its authors give them (Kingma & Ba 2015, algorithm 1).
SECOND_MOMENT_DECAY = 0.999
EPSILON = 1e-8


def build_optimiser(
    section: OptimiserSection, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe, over the parameters that want gradients.

    Weight decay acts on all parameters, biases and normalisation included.

    Args:
        section: its name, momentum and weight decay.
        parameters: those that need no gradient, as in frozen heads, are left out.
    """
    trained = [one for one in parameters if one.requires_grad]
    rate, decay = section.learning_rate, section.weight_decay
    if section.name == "sgd":
        return torch.optim.SGD(
            trained, lr=rate, momentum=section.momentum, weight_decay=decay
        )
    rule = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[section.name]
    betas = (section.momentum, SECOND_MOMENT_DECAY)
    return rule(trained, lr=rate, betas=betas, eps=EPSILON, weight_decay=decay)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate
