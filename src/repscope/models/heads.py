"""Projection heads: from the representation h to the z that an objective sees."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from repscope._checking import UsageError, check_choice
from repscope.models.initialisation import (
    HEAD_STREAM,
    draw_uniform,
    generator_of,
    made,
)

HeadName = Literal["none", "linear", "mlp2", "simclr", "vicreg", "barlow"]
# Which options each head takes.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "linear": ("out",),
    "mlp2": ("hidden", "out", "bn"),
    "simclr": ("hidden", "out", "bn"),
    "vicreg": ("hidden", "out", "bn"),
    "barlow": ("hidden", "out", "bn"),
}
# Width of z for contrastive heads, and of all layers for the others, in their sources.
CONTRASTIVE_OUT, REDUNDANCY_WIDTH = 128, 8192


@dataclass(frozen=True)
class Head:
    """The name and the sizes of a projection head, d wide at its input.

    ======  =====================================================================
    none    z = h
    linear  d → out
    mlp2    d → hidden [BN] ReLU → out; bn is False unless asked for
    simclr  d → hidden BN ReLU → out [BN]; bn, of the output, False unless asked for
    vicreg  (hidden BN ReLU) twice → out, no bias on the last
    barlow  as vicreg, no bias anywhere
    ======  =====================================================================

    Args:
        name: one of the above.
        hidden: width of the hidden layers; None is d for mlp2 and simclr, 8192 for
            vicreg and barlow.
        out: width of z; None is 128 for linear, mlp2 and simclr, 8192 for the others.
        bn: batch normalisation where the table has it in brackets; of the hidden layers
            of vicreg and barlow, where it is True unless refused. None is the default.

    Raises:
        UsageError: for an unknown name, an option the head has not, or a bad width.

    Source: MoCo v2 (mlp2), Chen et al. 2020 (simclr), Bardes et al. 2022 (vicreg),
    Zbontar et al. 2021 (barlow). Differs from the source in that SimCLR's code
    normalises its output, which its paper does not print and which is a choice here.
    """

    name: HeadName = "simclr"
    hidden: int | None = None
    out: int | None = None
    bn: bool | None = None

    def __post_init__(self) -> None:
        check_choice("head", self.name, get_args(HeadName))
        given = {"hidden": self.hidden, "out": self.out, "bn": self.bn}
        for option, value in given.items():
            if value is not None and option not in _OPTIONS[self.name]:
                raise UsageError(
                    f"head {self.name} has no option {option}",
                    expected=", ".join(_OPTIONS[self.name]) or "no option",
                    fix=f"leave {option} out",
                )
        for option in ("hidden", "out"):
            size = given[option]
            if size is not None and (type(size) is not int or size < 1):
                raise UsageError(
                    f"head {self.name}: {option} is {size!r}",
                    expected="a whole number from 1",
                )


def build_head(head: Head, d_in: int, *, seed: int = 0) -> nn.Module:
    """Return a head on the CPU with its first weights, uniform in ±1 / sqrt(fan-in).

    Args:
        head: what to build.
        d_in: width of the representation.
        seed: of the first weights; the global state of torch is not touched.
    """
    generator = generator_of(seed, HEAD_STREAM)
    return made(lambda: _assemble(head, d_in), draw_uniform, generator)


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers are trained: parameters, not the statistics of BN."""
    return sum(parameter.numel() for parameter in module.parameters())


def _assemble(head: Head, d_in: int) -> nn.Module:
    if head.name == "none":
        return nn.Identity()
    if head.name in ("vicreg", "barlow"):
        return _redundancy_head(head, d_in)
    out = head.out or CONTRASTIVE_OUT
    if head.name == "linear":
        return nn.Linear(d_in, out)
    hidden = head.hidden or d_in
    if head.name == "mlp2":
        return nn.Sequential(
            *_hidden(d_in, hidden, bias=True, bn=head.bn or False),
            nn.Linear(hidden, out),
        )
    layers = _hidden(d_in, hidden, bias=False, bn=True)
    layers.append(nn.Linear(hidden, out, bias=False))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(out)] if head.bn else []))


def _redundancy_head(head: Head, d_in: int) -> nn.Sequential:
    hidden = head.hidden or REDUNDANCY_WIDTH
    out = head.out or REDUNDANCY_WIDTH
    bn, bias = head.bn is not False, head.name == "vicreg"
    return nn.Sequential(
        *_hidden(d_in, hidden, bias=bias, bn=bn),
        *_hidden(hidden, hidden, bias=bias, bn=bn),
        nn.Linear(hidden, out, bias=False),
    )


def _hidden(inputs: int, outputs: int, *, bias: bool, bn: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Linear(inputs, outputs, bias=bias)]
    if bn:
        layers.append(nn.BatchNorm1d(outputs))
    return [*layers, nn.ReLU()]
