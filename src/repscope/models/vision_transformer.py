"""The vision transformer, with the parameter names of torchvision's.

A state dictionary of torchvision's `vit_b_16` and so on fits one of the same sizes, but
for its "heads", which these have not.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope._checking import InputError, UsageError
from repscope.models.abstract_backbone import REPRESENTATION, Backbone
from repscope.models.architecture import Architecture
from repscope.models.initialisation import AbstractSelfDrawn, draw_tokens_
from repscope.models.layer_outputs import Pool

# Hidden width of a block's perceptron, as a multiple of the width of the tokens.
_EXPANSION = 4
_EPSILON = 1e-6


@final
class Attention(nn.Module, AbstractSelfDrawn):
    """Multi-head attention of tokens among themselves.

    softmax(q k^T / sqrt(e)) v for each head, e being its width; the rows of
    `in_proj_weight` are those of q, k and v, one below the other.

    Source: Vaswani et al. 2017, section 3.2. Names as in torch's MultiheadAttention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def draw_own_(self, generator: torch.Generator) -> None:
        """Fill the input projections: uniform as one matrix, biases 0."""
        nn.init.xavier_uniform_(self.in_proj_weight, generator=generator)
        nn.init.zeros_(self.in_proj_bias)

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Return each token's mean of all tokens, weighted by likeness."""
        joint = nn.functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        # (n t 3d) -> three of (n heads t e)
        parts = joint.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


@final
class TransformerBlock(nn.Module):
    """tokens + attention(LN(tokens)), then the same with a perceptron of one layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=_EPSILON)
        self.self_attention = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=_EPSILON)
        # the identity stands where torchvision has dropout: names count it
        self.mlp = nn.Sequential(
            nn.Linear(width, _EXPANSION * width),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(_EXPANSION * width, width),
        )

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Return tokens of the same shape."""
        tokens = tokens + self.self_attention(self.ln_1(tokens))
        return tokens + self.mlp(self.ln_2(tokens))


@final
class TokenEncoder(nn.Module, AbstractSelfDrawn):
    """Adds positions to tokens, then blocks and a last normalisation."""

    def __init__(self, side: int, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.side = side
        self.pos_embedding = nn.Parameter(torch.empty(1, 1 + side**2, width))
        self.layers = nn.Sequential()
        for number in range(depth):
            block = TransformerBlock(width, heads)
            self.layers.add_module(f"encoder_layer_{number}", block)
        self.ln = nn.LayerNorm(width, eps=_EPSILON)

    def draw_own_(self, generator: torch.Generator) -> None:
        """Fill the positions."""
        draw_tokens_(self.pos_embedding, generator)

    def forward(
        self, tokens: Float[Tensor, "n t d"], rows: int, columns: int
    ) -> Float[Tensor, "n t d"]:
        """Return the tokens of the last block, normalised, the class token first."""
        placed = tokens + positions_of(self.pos_embedding, self.side, rows, columns)
        return self.ln(self.layers(placed))


@final
class VisionTransformer(Backbone, AbstractSelfDrawn):
    """Patches as tokens, a class token and learned positions; blocks with LN first.

    h is the class token after the last normalisation: of either sign. The layers are
    the blocks, each with its class token (`pool="cls"`), and h. Images of another size
    than `size` pass with positions interpolated between the learned ones.

    Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1;
    torchvision, `vision_transformer.py`. Differs from the source in having no dropout,
    and in a class token that is random at first, where torchvision's is 0.

    Raises:
        UsageError: where the heads do not divide the width, or the patch the size.
        InputError: in `forward`, for images whose sides the patch does not divide.
    """

    nonnegative = False
    pool: Pool = "cls"

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        check_transformer(architecture)
        self.architecture = architecture
        depth, width = architecture.depth or 0, architecture.width or 0
        self.patch = architecture.patch or 1
        self.conv_proj = nn.Conv2d(
            architecture.channels, width, self.patch, stride=self.patch
        )
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.encoder = TokenEncoder(
            (architecture.size or 0) // self.patch,
            depth,
            width,
            architecture.heads or 1,
        )
        names = [f"encoder.layers.encoder_layer_{number}" for number in range(depth)]
        self.layer_names = (*names, REPRESENTATION)
        self.feature_dim = width

    def draw_own_(self, generator: torch.Generator) -> None:
        """Fill the class token."""
        draw_tokens_(self.class_token, generator)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, of either sign."""
        height, width = images.shape[2:]
        if height % self.patch or width % self.patch or not height * width:
            raise InputError(
                f"{self.architecture.name}: images of {height}x{width} pixels",
                expected=f"sides that the patch of {self.patch} pixels divides",
                fix=f"crop to multiples of {self.patch}, or choose another patch",
            )
        patches = self.conv_proj(images)  # (n d rows columns)
        rows, columns = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2)  # (n rows*columns d)
        first = self.class_token.expand(len(images), -1, -1)
        encoded = self.encoder(torch.cat([first, tokens], dim=1), rows, columns)
        return encoded[:, 0]


def positions_of(
    learned: Float[Tensor, "1 t d"], side: int, rows: int, columns: int
) -> Float[Tensor, "1 s d"]:
    """Return the positions of a grid of patches: learned ones, or between them.

    The class token's stays as it is. Those of the patches are a map that is brought to
    the grid's size by bicubic interpolation (a = -0.75, half-pixel centres, no
    smoothing).

    Args:
        learned: of the class token and of side * side patches, row by row.
        side: of the learned grid, in patches.
        rows: of the grid wanted.
        columns: of the grid wanted.

    Source: facebookresearch/dino, `interpolate_pos_encoding`. Differs from the source
    in that sizes are given, not factors of them.
    """
    if (rows, columns) == (side, side):
        return learned
    first, others = learned[:, :1], learned[:, 1:]
    grid = others.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1 d side side)
    fitted = nn.functional.interpolate(
        grid, size=(rows, columns), mode="bicubic", align_corners=False
    )
    return torch.cat([first, fitted.flatten(2).transpose(1, 2)], dim=1)


def check_transformer(architecture: Architecture) -> None:
    """Raise UsageError where the sizes of a transformer do not fit each other.

    Args:
        architecture: completed.

    Raises:
        UsageError: where the heads do not divide the width, or the patch the size.
    """
    for part, whole in (("heads", "width"), ("patch", "size")):
        divisor, value = getattr(architecture, part), getattr(architecture, whole)
        if value % divisor:
            raise UsageError(
                f"{architecture.name}: {part} must divide {whole}",
                found=f"{part}={divisor}, {whole}={value}",
                fix=f"choose {whole}={divisor * max(1, value // divisor)}, "
                f"or other {part}",
            )
