"""What was trained, and how? One value that says it all and goes through TOML.

A recipe is a frozen record of frozen sections; each default is written here and
nowhere else. Names of protocols, encoders, heads and objectives are looked up in the
closed tables of their packages when a run is put together.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from repscope._checking import UsageError
from repscope.data.shortcuts import MAXIMUM_BITS
from repscope.training.toml_file import check_text, read_toml, too_deep
from repscope.training.typed_values import (
    fields_of,
    plain_of_text,
    record_of,
    unknown_key,
    value_of_text,
)

# Where the images lie says nothing about what they are; their fingerprint does.
PLACES = ("data.source", "data.split")
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

    def __post_init__(self) -> None:
        check_text("data.source", self.source)
        check_text("data.split", self.split)
        size = self.size
        allowed = size is None or 1 <= size <= MAXIMUM_SIZE
        _check("data.size", size, allowed, f"1 to {MAXIMUM_SIZE:,}")
        _check(
            "data.limit",
            self.limit,
            self.limit is None or self.limit >= 2,
            "at least 2",
        )
        _check(
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
            _check(f"augmentation.{name}", value, allowed, "0 to 1")
        low, high = self.crop_minimum, self.crop_maximum
        _check("augmentation.crop_minimum", low, low != 0, "above 0, to 1")
        _check("augmentation.crop_maximum", high, high != 0, "above 0, to 1")
        if low is not None and high is not None:
            limit = f"at most augmentation.crop_maximum = {high}"
            _check("augmentation.crop_minimum", low, low <= high, limit)
        strength = self.strength
        allowed = strength is None or strength >= 0
        _check("augmentation.strength", strength, allowed, "at least 0")


@dataclass(frozen=True)
class EncoderSection:
    """The network from images to features.

    Args:
        name: of the backbone.
        depth: its number of blocks; None for the backbone's own, as for all below.
        width: its number of channels.
        stem: its first layers, for small or for large images.
    """

    name: str = "small_conv"
    depth: int | None = None
    width: int | None = None
    stem: Literal["cifar", "imagenet"] | None = None


@dataclass(frozen=True)
class HeadSection:
    """The network from features to what the objective sees.

    Args:
        name: of the head.
        hidden: hidden dimensions; None for the head's own, as for all below.
        out: output dimensions.
        bn: whether there is batch normalisation where the head leaves the choice: on
            the output of "simclr", whose hidden layer always has it, and on the hidden
            layers of "mlp2", "vicreg" and "barlow".
    """

    name: str = "simclr"
    hidden: int | None = None
    out: int | None = None
    bn: bool | None = None


@dataclass(frozen=True)
class ObjectiveSection:
    """What training minimises.

    Args:
        name: of the objective.
        options: its parameters; those left out have the objective's own defaults.
    """

    name: str = "nt_xent"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimiserSection:
    """How a step is taken.

    Args:
        name: "sgd" with momentum, "adam", or "adamw" with decoupled weight decay.
        learning_rate: the greatest, reached at the end of the warm-up.
        momentum: of SGD; beta_1 of Adam.
        weight_decay: on all parameters.
        warmup_epochs: epochs in which the learning rate rises linearly from 0.
        schedule: of the learning rate after the warm-up.
        final_fraction: where "cosine" ends, as a share of `learning_rate`.
    """

    name: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 1e-6
    warmup_epochs: float = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    final_fraction: float = 1e-3

    def __post_init__(self) -> None:
        rate, fraction = self.learning_rate, self.final_fraction
        _check("optimiser.learning_rate", rate, rate > 0, "more than 0")
        momentum = self.momentum
        _check("optimiser.momentum", momentum, 0 <= momentum < 1, "0 to below 1")
        decay, warmup = self.weight_decay, self.warmup_epochs
        _check("optimiser.weight_decay", decay, decay >= 0, "at least 0")
        _check("optimiser.warmup_epochs", warmup, warmup >= 0, "at least 0")
        _check("optimiser.final_fraction", fraction, 0 <= fraction <= 1, "0 to 1")


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
        seed: of weights, order and augmentation.
    """

    epochs: int = 20
    batch_size: int = 256
    checkpoint_every: int = 100
    keep: int = 2
    maximum_nonfinite: int = 10
    channels_last: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch_size": LEAST_BATCH,
            "checkpoint_every": 1,
            "keep": 1,
            "maximum_nonfinite": 1,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            allowed = value >= minimum
            _check(f"training.{name}", value, allowed, f"at least {minimum}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which encoder comes out of which images.

    Args:
        data: which images.
        augmentation: how views of them are made.
        encoder: the network from images to features.
        head: the network from features to what the objective sees.
        objective: what training minimises.
        optimiser: how a step is taken.
        training: how long, and with what safety.

    Example:
        >>> recipe = override(Recipe(), ["training.epochs=3", "encoder.name=resnet18"])
        >>> recipe.training.epochs, recipe.encoder.name
        (3, 'resnet18')
        >>> print(*difference(Recipe(), recipe), sep="; ")
        encoder.name: small_conv -> resnet18; training.epochs: 20 -> 3
    """

    data: DataSection = field(default_factory=DataSection)
    augmentation: AugmentationSection = field(default_factory=AugmentationSection)
    encoder: EncoderSection = field(default_factory=EncoderSection)
    head: HeadSection = field(default_factory=HeadSection)
    objective: ObjectiveSection = field(default_factory=ObjectiveSection)
    optimiser: OptimiserSection = field(default_factory=OptimiserSection)
    training: TrainingSection = field(default_factory=TrainingSection)

    def __post_init__(self) -> None:
        warmup, epochs = self.optimiser.warmup_epochs, self.training.epochs
        limit = f"at most training.epochs = {epochs}"
        _check("optimiser.warmup_epochs", warmup, warmup <= epochs, limit)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Return the recipe in a TOML file; what it leaves out has its default.

        Raises:
            InputError: where there is no such file.
            UsageError: where it is no TOML, too long or too deep, or a key or a value
                is wrong.
        """
        plain, name = read_toml(path), Path(path).name
        try:
            return cls.from_dict(plain)
        except RecursionError as error:
            raise too_deep(name) from error
        except UsageError as error:
            raise _in_file(name, error) from error

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` gave, or a part of one.

        Raises:
            UsageError: where a key is unknown or a value is wrong.
        """
        recipe: Recipe = record_of(cls, plain, "")
        return recipe

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return section → key → value; keys without a value are left out.

        All defaults are written out. A field that may be None has None as its default,
        so that what is left out comes back.
        """
        return {
            section: {key: _plain(value) for key, value in values.items()}
            for section, values in _sections(self).items()
        }

    def dump(self) -> str:
        """Return the recipe as TOML, from which `load` gives the same recipe."""
        return tomli_w.dumps(self.to_dict())

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the result: everything but the data's place."""
        counted = {
            key: value for key, value in _flat(self).items() if key not in PLACES
        }
        text = json.dumps(counted, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def override(recipe: Recipe, words: Iterable[str]) -> Recipe:
    """Return the recipe with some values replaced.

    Args:
        recipe: is not changed.
        words: such as ``training.epochs=3``, ``data.limit=none`` or
            ``objective.options.temperature=0.1``; later ones win.

    Raises:
        UsageError: where a key is unknown or a value is of the wrong type.
    """
    plain = recipe.to_dict()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            example = "training.epochs=3"
            raise UsageError(f"{word!r} sets nothing", fix=f"write it as {example}")
        try:
            _replace(plain, key.strip().split("."), text.strip())
        except RecursionError as error:
            raise too_deep(key) from error
    return Recipe.from_dict(plain)


def difference(before: Recipe, after: Recipe) -> tuple[str, ...]:
    """Return one line for each value that differs, such as ``data.limit: none -> 9``.

    Where the images lie is left out, as it decides nothing.

    Args:
        before: a recipe.
        after: another.
    """
    left, right = _flat(before), _flat(after)
    return tuple(
        f"{key}: {_text(left.get(key))} -> {_text(right.get(key))}"
        for key in sorted(left | right)
        if left.get(key) != right.get(key) and key not in PLACES
    )


def _sections(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return section → key → value without the keys that have none."""
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in dataclasses.asdict(recipe).items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Return dotted key → value."""
    flat: dict[str, Any] = {}
    for section, values in recipe.to_dict().items():
        for key, value in values.items():
            inner = value if isinstance(value, Mapping) else {"": value}
            for name, one in inner.items():
                flat[f"{section}.{key}.{name}".rstrip(".")] = one
    return flat


def _replace(plain: dict[str, dict[str, Any]], path: list[str], text: str) -> None:
    """Set one value, typed by its field, in the tables of a recipe."""
    where = ".".join(path)
    sections = fields_of(Recipe)
    if path[0] not in sections:
        raise unknown_key(where, path[0], sections)
    hints = fields_of(sections[path[0]])
    if len(path) == 1 or path[1] not in hints:
        key = path[1] if len(path) > 1 else ""
        raise unknown_key(where, key, hints)
    values, kind = plain[path[0]], hints[path[1]]
    if len(path) == 3 and path[1] == "options":
        _set(values.setdefault("options", {}), path[2], plain_of_text(text))
    elif len(path) == 2 and path[1] != "options":
        _set(values, path[1], value_of_text(kind, text, where))
    else:
        raise UsageError(
            f"{where!r} names no single value", fix="objective.options.NAME=VALUE"
        )


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = _plain(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _check(name: str, value: Any, allowed: bool, expected: str) -> None:
    if not allowed:
        raise UsageError(f"{name} = {value}", expected=expected)


def _in_file(name: str, error: UsageError) -> UsageError:
    return UsageError(
        f"{name}: {error.what}",
        found=error.found,
        expected=error.expected,
        fix=error.fix,
    )
