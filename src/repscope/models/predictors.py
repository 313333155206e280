"""Networks after the head: predictors, prototypes and classifiers."""

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope._checking import UsageError, check_choice
from repscope.models.heads import check_options, hidden_layer
from repscope.models.initialisation import (
    PREDICTOR_STREAM,
    AbstractSelfDrawn,
    draw_uniform,
    generator_of,
    made,
)

PredictorName = Literal["none", "byol", "simsiam", "prototypes", "classes"]
# Which options each predictor takes.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "byol": ("hidden", "bn"),
    "simsiam": ("hidden", "bn"),
    "prototypes": ("out",),
    "classes": (),
}
BYOL_HIDDEN, PROTOTYPES = 4096, 3000
# SimSiam's hidden layer is narrower than its input by so much.
_BOTTLENECK = 4
# Rows shorter than this have no direction.
LEAST_NORM = 1e-8


@dataclass(frozen=True)
class Predictor:
    """The name and the sizes of a network on z, m wide at its input.

    ==========  ==================================================================
    none        z itself
    byol        m → hidden [BN] ReLU → m, no bias on the last
    simsiam     m → hidden [BN] ReLU → m, no bias on the first
    prototypes  cosines of z with `out` unit vectors
    classes     m → one score per class
    ==========  ==================================================================

    Args:
        name: one of the above.
        hidden: width of the hidden layer; None is 4096 for byol, and m / 4, at least 1,
            for simsiam.
        out: how many prototypes; None is 3000.
        bn: batch normalisation of the hidden layer; None is True.

    Raises:
        UsageError: for an unknown name, an option the predictor has not, or a bad
            width.

    Source: Grill et al. 2020, and deepmind-research, `byol/utils/networks.py` (byol);
    Chen and He 2021, and facebookresearch/simsiam, `simsiam/builder.py` (simsiam);
    Caron et al. 2020 (prototypes). As in the source.
    """

    name: PredictorName = "none"
    hidden: int | None = None
    out: int | None = None
    bn: bool | None = None

    def __post_init__(self) -> None:
        check_choice("predictor", self.name, get_args(PredictorName))
        given = {"hidden": self.hidden, "out": self.out, "bn": self.bn}
        check_options(f"predictor {self.name}", given, _OPTIONS[self.name])


@final
class Prototypes(nn.Module, AbstractSelfDrawn):
    """Cosines of vectors with K unit vectors, one row of `weight` each.

    z / |z| · weight^T, in single precision at least whatever autocast says: scores are
    divided by small temperatures. Vectors shorter than 1e-8 have the score 0 and no
    gradient. The rows are unit vectors at first and after `normalize_`; a step of an
    optimiser makes them others.

    Args:
        d_in: width of the vectors.
        count: K.

    Source: Caron et al. 2020, "Unsupervised Learning of Visual Features by Contrasting
    Cluster Assignments", section 3.1; facebookresearch/swav, `main_swav.py`. Differs
    from the source in that rows are made unit after each step, where the authors' code
    does it before the next.
    """

    def __init__(self, d_in: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, d_in))

    def draw_own_(self, generator: torch.Generator) -> None:
        """Fill the rows uniformly in ±1 / sqrt(d_in), and make them unit."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        self.normalize_()

    def forward(self, vectors: Float[Tensor, "n m"]) -> Float[Tensor, "n k"]:
        """Return the scores of each vector, in [-1, 1] while the rows are unit."""
        with torch.autocast(vectors.device.type, enabled=False):
            exact = vectors if vectors.dtype == torch.float64 else vectors.float()
            return _unit_rows(exact) @ self.weight.to(exact.dtype).T

    @torch.no_grad()
    def normalize_(self) -> None:
        """Make the rows unit, in place; rows shorter than 1e-8 become 0."""
        self.weight.copy_(_unit_rows(self.weight))


def build_predictor(
    predictor: Predictor, d_in: int, *, seed: int, n_classes: int | None = None
) -> nn.Module:
    """Return a predictor on the CPU with its first weights.

    Linear layers are uniform in ±1 / sqrt(fan-in), prototypes unit vectors.

    Args:
        predictor: what to build.
        d_in: width of z.
        seed: of the first weights; the global state of torch is not touched.
        n_classes: of the labels, for "classes"; unused by the others.

    Raises:
        UsageError: where "classes" is not told how many.
    """
    if predictor.name == "classes" and n_classes is None:
        raise UsageError(
            "predictor classes: how many classes there are is not known",
            expected="n_classes, a whole number from 1",
            fix="train on images with labels, or choose an objective without them",
        )
    generator = generator_of(seed, PREDICTOR_STREAM)
    return made(lambda: _assembled(predictor, d_in, n_classes), draw_uniform, generator)


def _assembled(predictor: Predictor, d_in: int, n_classes: int | None) -> nn.Module:
    if predictor.name == "none":
        return nn.Identity()
    if predictor.name == "prototypes":
        return Prototypes(d_in, predictor.out or PROTOTYPES)
    if predictor.name == "classes":
        return nn.Linear(d_in, n_classes or 0)
    is_byol, bn = predictor.name == "byol", predictor.bn is not False
    usual = BYOL_HIDDEN if is_byol else max(1, d_in // _BOTTLENECK)
    hidden = predictor.hidden or usual
    return nn.Sequential(
        *hidden_layer(d_in, hidden, bias=is_byol, bn=bn),
        nn.Linear(hidden, d_in, bias=not is_byol),
    )


def _unit_rows(rows: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    directed = lengths > LEAST_NORM
    # both branches of a where are differentiated: the length must not be 0 in either
    safe = torch.where(directed, lengths, torch.ones_like(lengths))
    return torch.where(directed, rows / safe, torch.zeros_like(rows))
