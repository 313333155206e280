"""Which values does a recipe have? Its sections, each with its defaults and ranges.

Each default is written here and nowhere else. Names of protocols, encoders, heads and
objectives are looked up in the closed tables of their packages when a run is put
together.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repscope._checking import UsageError
from repscope.data.shortcuts import MAXIMUM_BITS
from repscope.training.toml_file import check_text

# Views of larger sides fit into no memory; such a number is a slip of the pen.
MAXIMUM_SIZE = 4096
# A batch of one has no other image in it, and no variance to normalise with.
LEAST_BATCH = 2


@dataclass(frozen=True)
class DataSection:
    """Which images.

    Args:
        source: what `open_images` was given; "" where images were passed in Python.
        split: the part of it; "" for all of it.
        size: side of the images in pixels, at most 4,096; None for their own.
        stored_size: side at which they are kept before crops are cut from them; None
            for 8/7 of views beyond 64 pixels, and for the views' own side below.
        channels: 1 turns them grey; None for their own.
        limit: about how many of them, the same number of each class; None for all.
        bits: bits of the RandBit code that are added as constant channels.
        bit_seed: of that code.
    """

    source: str = ""
    split: str = ""
    size: int | None = None
    channels: Literal[1, 3] | None = None
    limit: int | None = None
    bits: int = 0
    bit_seed: int = 0
    stored_size: int | None = None

    def __post_init__(self) -> None:
        check_text("data.source", self.source)
        check_text("data.split", self.split)
        size = self.size
        allowed = size is None or 1 <= size <= MAXIMUM_SIZE
        check_value("data.size", size, allowed, f"1 to {MAXIMUM_SIZE:,}")
        stored = self.stored_size
        allowed = stored is None or (size or 1) <= stored <= MAXIMUM_SIZE
        limit = f"data.size to {MAXIMUM_SIZE:,}"
        check_value("data.stored_size", stored, allowed, limit)
        check_value(
            "data.limit",
            self.limit,
            self.limit is None or self.limit >= 2,
            "at least 2",
        )
        check_value(
            "data.bits",
            self.bits,
            0 <= self.bits <= MAXIMUM_BITS,
            f"0 to {MAXIMUM_BITS}",
        )


@dataclass(frozen=True)
class AugmentationSection:
    """How two views of one image are made.

    Args:
        protocol: its name.
        strength: of the colour jitter, where the protocol has one; None for its own.
        crop_minimum: the least share of the area that a crop keeps, above 0; None for
            that of the protocol, as for all below.
        crop_maximum: the greatest share, not below `crop_minimum`.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter.
        gray: probability of grey.
        blur: probability of blur.
        mean: per channel, of values in [0, 1], subtracted; together with `std`. None
            for what the protocol's source has, whatever the images: CIFAR-10's or
            ImageNet's (none in digits16). Grey images, which have no such published
            statistics, get their own.
        std: per channel, divided by.
    """

    protocol: str = "simclr_cifar"
    strength: float | None = None
    crop_minimum: float | None = None
    crop_maximum: float | None = None
    flip: float | None = None
    jitter: float | None = None
    gray: float | None = None
    blur: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("crop_minimum", "crop_maximum", "flip", "jitter", "gray", "blur"):
            value = getattr(self, name)
            allowed = value is None or 0 <= value <= 1
            check_value(f"augmentation.{name}", value, allowed, "0 to 1")
        low, high = self.crop_minimum, self.crop_maximum
        check_value("augmentation.crop_minimum", low, low != 0, "above 0, to 1")
        check_value("augmentation.crop_maximum", high, high != 0, "above 0, to 1")
        if low is not None and high is not None:
            limit = f"at most augmentation.crop_maximum = {high}"
            check_value("augmentation.crop_minimum", low, low <= high, limit)
        strength = self.strength
        allowed = strength is None or strength >= 0
        check_value("augmentation.strength", strength, allowed, "at least 0")


@dataclass(frozen=True)
class EncoderSection:
    """The network from images to features.

    Args:
        name: of the backbone.
        depth: its number of blocks; None for the backbone's own, as for all below.
        width: its number of channels.
        stem: its first layers, for small or for large images.
        patch: side of a patch in pixels, of a vision transformer.
        heads: of its attention.
        hidden: widths of the hidden layers of an "mlp".
    """

    name: str = "small_conv"
    depth: int | None = None
    width: int | None = None
    stem: Literal["cifar", "imagenet"] | None = None
    patch: int | None = None
    heads: int | None = None
    hidden: tuple[int, ...] | None = None


@dataclass(frozen=True)
class HeadSection:
    """The network from features to what the objective sees.

    Args:
        name: of the head.
        hidden: hidden dimensions; None for the head's own, as for all below.
        out: output dimensions.
        bn: whether there is batch normalisation where the head leaves the choice: on
            the output of "simclr", whose hidden layer always has it, and on the hidden
            layers of the "mlp" and "vicreg" heads and of "barlow".
    """

    name: str = "simclr"
    hidden: int | None = None
    out: int | None = None
    bn: bool | None = None


@dataclass(frozen=True)
class PredictorSection:
    """The network after the head, of objectives that have one.

    Args:
        name: of the predictor; None for that of the objective, as for all below.
        hidden: hidden dimensions.
        out: output dimensions: of "prototypes", how many there are.
        bn: whether its hidden layers have batch normalisation.
    """

    name: str | None = None
    hidden: int | None = None
    out: int | None = None
    bn: bool | None = None


@dataclass(frozen=True)
class ObjectiveSection:
    """What training minimises.

    Args:
        name: of the objective.
        options: its parameters; those left out have the objective's own defaults.
        labels: the level of labels that it is given; "" for the finest.
    """

    name: str = "nt_xent"
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: str = ""

    def __post_init__(self) -> None:
        check_text("objective.labels", self.labels)


@dataclass(frozen=True)
class OptimiserSection:
    """How a step is taken.

    Args:
        name: "sgd" with momentum, "adam", "adamw" with decoupled weight decay, or
            "lars" with a rate for each layer.
        learning_rate: the greatest, reached at the end of the warm-up.
        momentum: of SGD and LARS; beta_1 of Adam.
        weight_decay: on all parameters but those that `exclude_1d` leaves out.
        warmup_epochs: epochs in which the learning rate rises linearly from 0.
        schedule: of the learning rate after the warm-up.
        final_fraction: where "cosine" ends, as a share of `learning_rate`.
        trust: of "lars": the length of its step as a share of that of the weights, at
            a learning rate of 1; above 0.
        clip: of "lars": whether the trust only shortens steps of SGD.
        exclude_1d: whether biases and the parameters of normalisation, which have one
            dimension, are without weight decay; those of "lars" always are.
        milestones: of the schedule "step": the epochs after which the learning rate is
            multiplied by `step_factor`, above 0 and rising.
        step_factor: above 0, to 1.
        nesterov: whether "sgd" looks ahead by its momentum.
    """

    name: Literal["sgd", "adam", "adamw", "lars"] = "adam"
    learning_rate: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 1e-6
    warmup_epochs: float = 1.0
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    final_fraction: float = 1e-3
    trust: float = 1e-3
    clip: bool = False
    exclude_1d: bool = False
    milestones: tuple[float, ...] = ()
    step_factor: float = 0.1
    nesterov: bool = False

    def __post_init__(self) -> None:
        rate, fraction = self.learning_rate, self.final_fraction
        check_value("optimiser.learning_rate", rate, rate > 0, "more than 0")
        momentum = self.momentum
        check_value("optimiser.momentum", momentum, 0 <= momentum < 1, "0 to below 1")
        decay, warmup = self.weight_decay, self.warmup_epochs
        check_value("optimiser.weight_decay", decay, decay >= 0, "at least 0")
        check_value("optimiser.warmup_epochs", warmup, warmup >= 0, "at least 0")
        check_value("optimiser.final_fraction", fraction, 0 <= fraction <= 1, "0 to 1")
        trust, factor = self.trust, self.step_factor
        check_value("optimiser.trust", trust, trust > 0, "more than 0")
        check_value("optimiser.step_factor", factor, 0 < factor <= 1, "above 0, to 1")
        rising = all(a < b for a, b in itertools.pairwise((0, *self.milestones)))
        given = list(self.milestones)
        check_value("optimiser.milestones", given, rising, "above 0 and rising")
        allowed = not self.clip or self.name == "lars"
        check_value("optimiser.clip", self.clip, allowed, "false, or name = lars")
        stepped = bool(given) or self.schedule != "step"
        expected = "an epoch or more, for schedule = step"
        check_value("optimiser.milestones", given, stepped, expected)
        possible = not self.nesterov or (self.name == "sgd" and momentum > 0)
        expected = "false, or name = sgd with a momentum above 0"
        check_value("optimiser.nesterov", "true", possible, expected)


@dataclass(frozen=True)
class TrainingSection:
    """How long, and with what safety.

    Args:
        epochs: passes over the images.
        batch_size: images in a step; each gives as many views as the protocol has.
        checkpoint_every: steps between two checkpoints.
        keep: checkpoints that are kept.
        maximum_nonfinite: steps in a row with a loss or gradient that is no number,
            after which training stops.
        channels_last: the memory layout of images that is fastest for convolutions.
        precision: of the networks: "bfloat16" under autocast, "float32", or "auto":
            "bfloat16" on a GPU that has it, "float32" elsewhere. Losses are computed in
            float32 in any case, and weights kept in it.
        compile: whether the networks are compiled first, which takes a minute or more
            and gains where a run is long.
        batch_norm: "local" takes the statistics of each process's share of a batch,
            "global" those of the whole, so that the number of processes changes nothing
            but the last bits.
        bn_splits: into so many groups each batch is split for batch normalisation, as
            if there were so many processes.
        seed: of weights, order, augmentation and all that an objective draws.
    """

    epochs: int = 20
    batch_size: int = 256
    checkpoint_every: int = 100
    keep: int = 2
    maximum_nonfinite: int = 10
    channels_last: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    batch_norm: Literal["local", "global"] = "local"
    bn_splits: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch_size": LEAST_BATCH,
            "checkpoint_every": 1,
            "keep": 1,
            "maximum_nonfinite": 1,
            "bn_splits": 1,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            allowed = value >= minimum
            check_value(f"training.{name}", value, allowed, f"at least {minimum}")
        splits, norm = self.bn_splits, self.batch_norm
        allowed = splits == 1 or norm == "local"
        limit = 'one group where training.batch_norm = "global"'
        check_value("training.bn_splits", splits, allowed, limit)


def check_value(name: str, value: Any, allowed: bool, expected: str) -> None:
    """Raise UsageError where a value of a recipe is out of its range."""
    if not allowed:
        raise UsageError(f"{name} = {value}", expected=expected)
