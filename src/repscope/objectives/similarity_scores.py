"""What do the scores of alike and unlike projections sum to, without lost terms?

What contrastive losses share: a score is a cosine / temperature, and they weigh it
against the log sum of the exponentials of others.
"""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from repscope._checking import UsageError


def check_temperature(objective: str, temperature: float) -> None:
    """Raise UsageError unless a temperature is above 0 and finite.

    Args:
        objective: its name in a recipe.
        temperature: what scores are divided by.

    Raises:
        UsageError: naming both.
    """
    if not 0 < temperature < math.inf:
        raise UsageError(
            f"{objective}: temperature is {temperature}", expected="above 0"
        )


def zero_rows(*units: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return how many of the rows of length 1 or 0 have no direction."""
    counts = [(unit == 0).all(dim=1).sum() for unit in units]
    return torch.stack(counts).sum().to(units[0].dtype)


def mask_diagonal_(scores: Float[Tensor, "n k"], offset: int = 0) -> None:
    """Leave the pairs of one diagonal out of all log sums: their scores become -inf.

    Autograd does not see it and need not: a score of -inf has no share in a log sum,
    so that the gradient of what made it is 0.

    Args:
        scores: not yet used for anything else.
        offset: of the diagonal, as `Tensor.diagonal` counts it.
    """
    scores.detach().diagonal(offset).fill_(-math.inf)


def log_sum_exp(scores: Float[Tensor, "n k"], dim: int = 1) -> Float[Tensor, " _"]:
    """Return log sum exp of the scores along a dimension; none may be all -inf.

    As torch.logsumexp, with fewer passes over the scores in the backward pass: the
    exponentials are kept, not computed again.
    """
    highest = scores.detach().amax(dim=dim, keepdim=True)
    return (scores - highest).exp_().sum(dim=dim).log() + highest.squeeze(dim)


def same_class(labels: Shaped[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Return which images have the label of which; below 0 each is its own class."""
    same = (labels == labels[:, None]) & (labels >= 0)
    return same | torch.eye(len(labels), dtype=torch.bool, device=labels.device)
