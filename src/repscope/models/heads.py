"""Projection heads: from the representation h to the z that an objective sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from torch import nn

from repscope._checking import UsageError, check_choice
from repscope.models.initialisation import (
    HEAD_STREAM,
    draw_uniform,
    generator_of,
    made,
)

HeadName = Literal[
    "none",
    "linear",
    "mlp2",
    "mlp2_frozen",
    "mlp3",
    "mlp2_narrow",
    "simclr",
    "byol",
    "simsiam",
    "barlow",
    "fastssl",
    "vicreg",
    "vicreg_two_layer",
    "swav",
]
# Width of z for contrastive heads, and of all layers for the others, in their sources.
CONTRASTIVE_OUT, REDUNDANCY_WIDTH = 128, 8192
# The hidden layers of MoCo v2, whose input is as wide.
MOCO_WIDTH = 2048


@dataclass(frozen=True)
class HeadKind:
    """What a head's name stands for: linear layers, with or without what is between.

    Args:
        out: width of z where none is asked for.
        options: what may be chosen.
        n_hidden: hidden layers, each followed by BN where there is any, and by ReLU.
        hidden: their width; None for that of h, or of z where `square`.
        hidden_bn: whether BN follows them, where `bn` is no option or left open.
        hidden_bias: whether they have biases.
        out_bn: whether BN follows z; "plain" for one without scale and shift.
        out_bias: whether the last layer has biases.
        square: whether hidden layers are as wide as z.
        frozen: whether nothing of it is trained.
    """

    out: int
    options: tuple[str, ...] = ("hidden", "out")
    n_hidden: int = 1
    hidden: int | None = None
    hidden_bn: bool = True
    hidden_bias: bool = True
    out_bn: Literal["none", "option", "plain"] = "none"
    out_bias: bool = True
    square: bool = False
    frozen: bool = False


_ALL = ("hidden", "out", "bn")
# All heads but "none", which has no layer.
HEADS: Mapping[str, HeadKind] = MappingProxyType(
    {
        "linear": HeadKind(CONTRASTIVE_OUT, ("out",), n_hidden=0),
        "mlp2": HeadKind(CONTRASTIVE_OUT, _ALL, hidden_bn=False),
        "mlp2_frozen": HeadKind(CONTRASTIVE_OUT, _ALL, hidden_bn=False, frozen=True),
        "mlp3": HeadKind(
            CONTRASTIVE_OUT, _ALL, n_hidden=2, hidden=MOCO_WIDTH, hidden_bn=False
        ),
        "mlp2_narrow": HeadKind(CONTRASTIVE_OUT, _ALL, hidden=128, hidden_bn=False),
        "simclr": HeadKind(
            CONTRASTIVE_OUT,
            _ALL,
            hidden_bias=False,
            out_bn="option",
            out_bias=False,
        ),
        "byol": HeadKind(256, hidden=4096, out_bias=False),
        "simsiam": HeadKind(
            2048, n_hidden=2, hidden_bias=False, out_bn="plain", out_bias=False
        ),
        "barlow": HeadKind(
            REDUNDANCY_WIDTH,
            _ALL,
            n_hidden=2,
            hidden=REDUNDANCY_WIDTH,
            hidden_bias=False,
            out_bias=False,
        ),
        "fastssl": HeadKind(1024, hidden_bias=False, square=True),
        "vicreg": HeadKind(
            REDUNDANCY_WIDTH,
            _ALL,
            n_hidden=2,
            hidden=REDUNDANCY_WIDTH,
            out_bias=False,
        ),
        "vicreg_two_layer": HeadKind(2048, _ALL, hidden=2048, out_bias=False),
        "swav": HeadKind(CONTRASTIVE_OUT, hidden=2048),
    }
)


@dataclass(frozen=True)
class Head:
    """The name and the sizes of a projection head, d wide at its input.

    ================  ===========================================================
    none              z = h
    linear            d → out
    mlp2              d → hidden [BN] ReLU → out; bn is False unless asked for
    mlp2_frozen       as mlp2, and nothing of it is ever trained
    mlp3              d → hidden [BN] ReLU → hidden [BN] ReLU → out; bn as mlp2
    mlp2_narrow       as mlp2, with hidden 128
    simclr            d → hidden BN ReLU → out [BN], no bias anywhere; bn, of the
                      output, False unless asked for
    byol              d → hidden BN ReLU → out, no bias on the last
    simsiam           d → (hidden BN ReLU) twice → out BN, no bias anywhere, no
                      scale and shift in the last BN
    barlow            d → (hidden BN ReLU) twice → out, no bias anywhere
    fastssl           d → hidden BN ReLU → out, no bias on the first
    vicreg            as barlow, no bias on the last alone
    vicreg_two_layer  d → hidden BN ReLU → out, no bias on the last
    swav              d → hidden BN ReLU → out
    ================  ===========================================================

    Args:
        name: one of the above.
        hidden: width of the hidden layers; None is d for mlp2, mlp2_frozen, simclr and
            simsiam (so that MoCo v2's 2048 is that of a ResNet-50), 2048 for mlp3,
            vicreg_two_layer and swav, 128 for mlp2_narrow, 4096 for byol, 8192 for
            vicreg and barlow, and `out` for fastssl.
        out: width of z; None is 256 for byol, 1024 for fastssl, 2048 for simsiam and
            vicreg_two_layer, 8192 for vicreg and barlow, 128 for all others.
        bn: batch normalisation where the table has it in brackets; of the hidden layers
            of vicreg, vicreg_two_layer and barlow, where it is True unless refused.
            None is the default.

    Raises:
        UsageError: for an unknown name, an option the head has not, or a bad width.

    Source: MoCo v2 (mlp2), Appalaraju et al. 2020, table 1 (none, linear, mlp2_frozen,
    mlp3, mlp2_narrow), Chen et al. 2020 (simclr), Grill et al. 2020 (byol), Chen and He
    2021 (simsiam), Zbontar et al. 2021 (barlow), Agrawal et al. 2022 (fastssl), Bardes
    et al. 2022 (vicreg), Ben-Shaul et al. 2023 (vicreg_two_layer), Caron et al. 2020
    (swav). Differs from the source in that SimCLR's code normalises its output, which
    its paper does not print and which is a choice here; in the widths of
    vicreg_two_layer and the distribution of mlp2_frozen, which are not printed; in that
    "narrower, 2048 → 128" is read as the hidden width. "None" of table 1 has two
    readings, `none` and `linear`: the authors' code base keeps a linear layer.
    """

    name: HeadName = "simclr"
    hidden: int | None = None
    out: int | None = None
    bn: bool | None = None

    def __post_init__(self) -> None:
        check_choice("head", self.name, get_args(HeadName))
        options = () if self.name == "none" else HEADS[self.name].options
        given = {"hidden": self.hidden, "out": self.out, "bn": self.bn}
        check_options(f"head {self.name}", given, options)


def build_head(head: Head, d_in: int, *, seed: int = 0) -> nn.Module:
    """Return a head on the CPU with its first weights, uniform in ±1 / sqrt(fan-in).

    Biases have the range of the weights beside them. Those of mlp2_frozen are the same
    numbers as those of mlp2, and want no gradient: optimisers are not given them, so
    that neither steps nor weight decay change them.

    Args:
        head: what to build.
        d_in: width of the representation.
        seed: of the first weights; the global state of torch is not touched.
    """
    generator = generator_of(seed, HEAD_STREAM)
    module = made(lambda: _assembled(head, d_in), draw_uniform, generator)
    is_frozen = head.name != "none" and HEADS[head.name].frozen
    return freeze(module) if is_frozen else module


def freeze(module: nn.Module) -> nn.Module:
    """Return the module, none of whose parameters wants a gradient any more.

    Statistics of BN still follow the batches in training mode.

    Args:
        module: changed in place.
    """
    return module.requires_grad_(False)


def is_linear(head: Head) -> bool:
    """Return whether z is an affine function of h: no head at all, or one matrix."""
    return head.name == "none" or HEADS[head.name].n_hidden == 0


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers the parameters are, frozen ones counted.

    The statistics of BN are none.
    """
    return sum(parameter.numel() for parameter in module.parameters())


def check_options(
    what: str, given: Mapping[str, int | bool | None], options: tuple[str, ...]
) -> None:
    """Raise UsageError for an option that a small network has not, or a bad width.

    Args:
        what: the network, for the error.
        given: option → value; None where it is left open.
        options: those that it has. All but "bn" are widths.

    Raises:
        UsageError: with the options there are.
    """
    for option, value in given.items():
        if value is None:
            continue
        if option not in options:
            raise UsageError(
                f"{what} has no option {option}",
                expected=", ".join(options) or "no option",
                fix=f"leave {option} out",
            )
        if option != "bn" and (type(value) is not int or value < 1):
            raise UsageError(
                f"{what}: {option} is {value!r}", expected="a whole number from 1"
            )


def hidden_layer(inputs: int, outputs: int, *, bias: bool, bn: bool) -> list[nn.Module]:
    """Return a linear layer, BN where asked for, and ReLU."""
    layers: list[nn.Module] = [nn.Linear(inputs, outputs, bias=bias)]
    if bn:
        layers.append(nn.BatchNorm1d(outputs))
    return [*layers, nn.ReLU()]


def _assembled(head: Head, d_in: int) -> nn.Module:
    if head.name == "none":
        return nn.Identity()
    kind = HEADS[head.name]
    out = head.out or kind.out
    hidden = head.hidden or kind.hidden or (out if kind.square else d_in)
    bn = kind.hidden_bn
    if kind.out_bn != "option" and head.bn is not None:
        bn = head.bn
    layers: list[nn.Module] = []
    inputs = d_in
    for _ in range(kind.n_hidden):
        layers += hidden_layer(inputs, hidden, bias=kind.hidden_bias, bn=bn)
        inputs = hidden
    last = nn.Linear(inputs, out, bias=kind.out_bias)
    if not layers:
        return last
    layers.append(last)
    if kind.out_bn == "plain" or (kind.out_bn == "option" and head.bn):
        layers.append(nn.BatchNorm1d(out, affine=kind.out_bn == "option"))
    return nn.Sequential(*layers)
