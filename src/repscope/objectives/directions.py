"""Which way does each row point, and what does a row without a direction do?"""

import torch
from jaxtyping import Float
from torch import Tensor

# A shorter row has no direction: its cosine with every other counts as 0, and no
# gradient comes from it.
LEAST_NORM = 1e-8


def directions(features: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return rows of length 1; rows too short for a direction become 0.

    Differentiable; the gradient of a row that is too short is 0.
    """
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    directed = lengths > LEAST_NORM
    # Both branches of a where are differentiated: the length must not be 0 in either.
    safe = torch.where(directed, lengths, torch.ones_like(lengths))
    return features * torch.where(directed, 1 / safe, torch.zeros_like(lengths))
