"""Which augmentations did the published methods train with?

A protocol is a list of operations per view. `PROTOCOLS` holds those of the literature
with their sources; `strength_sweep` varies one of them along an axis.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from repscope._checking import UsageError, check_choice
from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    Operation,
    RandomResizedCrop,
    Solarize,
    describe,
    to_dict,
)

Views = tuple[tuple[Operation, ...], ...]
Axis = Literal["crop", "color", "blur", "gray"]

# Mean and deviation of red, green and blue, of values in [0, 1].
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10: Statistics = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

# Brightness, contrast, saturation and hue of the colour jitter at strength 1.
SIMCLR_JITTER = (0.8, 0.8, 0.8, 0.2)
# Appalaraju et al. 2020, Table 2a: least and largest share of the area.
CROP_STRENGTHS = {"baseline": (0.2, 1.0), "medium": (0.2, 0.5), "extreme": (0.02, 0.1)}
# Appalaraju et al. 2020, Table 2b, whose header is lost: SimCLR's grid, which it cites.
COLOUR_STRENGTHS = (1 / 8, 1 / 4, 1 / 2, 1.0)
# Probabilities of blur and grey; no table of theirs is published.
PROBABILITIES = (0.0, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Protocol:
    """What is done to an image for each of its views.

    Args:
        name: as in `PROTOCOLS`; a sweep adds its axis and level.
        views: the operations of each view, in their order.
        source: where it is published, and what had to be filled in.
    """

    name: str
    views: Views
    source: str

    @property
    def size(self) -> int | None:
        """Side of a view in pixels; None where it keeps that of the image."""
        crops = [one for one in self.views[0] if isinstance(one, RandomResizedCrop)]
        return crops[0].size if crops else None

    def describe(self) -> str:
        """Return name, source and every parameter of every operation."""
        lines = [self.name, f"  source: {self.source}"]
        if len(set(self.views)) == 1:
            titled = [(f"each of {len(self.views)} views", self.views[0])]
        else:
            titled = [(f"view {i}", view) for i, view in enumerate(self.views, 1)]
        for title, view in titled:
            lines += [f"  {title}:", *(f"    {describe(one)}" for one in view)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as primitives."""
        views = [[to_dict(operation) for operation in view] for view in self.views]
        return {"name": self.name, "source": self.source, "views": views}


@dataclass(frozen=True)
class Published:
    """A protocol as it is published, before its size and strength are chosen.

    Args:
        source: where it is published, and what had to be filled in.
        size: side of a view in pixels.
        statistics: for the normalisation at the end; None for none.
        build: from size and strength to the views without normalisation.
        strength: factor on the colour jitter; None where there is no jitter.
    """

    source: str
    size: int
    statistics: Statistics | None
    build: Callable[[int, float], Views]
    strength: float | None = 1.0


def _blur(size: int, p: float) -> GaussianBlur:
    """Return a blur over a tenth of the side, as SimCLR's code rounds it, or 3 taps.

    Below 20 pixels SimCLR's own rounding leaves one tap, which blurs nothing.
    """
    return GaussianBlur(2 * max(size // 10 // 2, 1) + 1, p=p)


def _jitter(amounts: Sequence[float], strength: float, p: float = 0.8) -> ColorJitter:
    brightness, contrast, saturation, hue = (amount * strength for amount in amounts)
    return ColorJitter(brightness, contrast, saturation, hue, p=p)


def _twice(*operations: Operation) -> Views:
    return operations, operations


def _simclr(size: int, strength: float) -> Views:
    return _twice(
        RandomResizedCrop(size),
        HorizontalFlip(),
        _jitter(SIMCLR_JITTER, strength),
        Grayscale(),
        _blur(size, p=0.5),
    )


def _simclr_without_blur(size: int, strength: float) -> Views:
    return tuple(view[:-1] for view in _simclr(size, strength))


def _reverse_engineering(size: int, strength: float) -> Views:
    return _twice(
        RandomResizedCrop(size),
        HorizontalFlip(),
        _jitter((0.4, 0.4, 0.2, 0.1), strength),
        Grayscale(),
        GaussianBlur(23, p=0.5),
        Solarize(p=0.1),
    )


def _unequal_views(size: int, strength: float) -> Views:
    start = (
        RandomResizedCrop(size, interpolation="bicubic"),
        HorizontalFlip(),
        _jitter((0.4, 0.4, 0.2, 0.1), strength),
        Grayscale(),
    )
    return (
        (*start, _blur(size, p=1.0), Solarize(p=0.0)),
        (*start, _blur(size, p=0.1), Solarize(p=0.2)),
    )


def _moco_v1(size: int, strength: float) -> Views:
    return _twice(
        RandomResizedCrop(size, (0.2, 1.0)),
        Grayscale(),
        _jitter((0.4, 0.4, 0.4, 0.4), strength, p=1.0),
        HorizontalFlip(),
    )


def _moco_v2(size: int, strength: float) -> Views:
    return _twice(
        RandomResizedCrop(size, (0.2, 1.0)),
        _jitter((0.4, 0.4, 0.4, 0.1), strength),
        Grayscale(),
        _blur(size, p=0.5),
        HorizontalFlip(),
    )


def _small_images(least_area: float) -> Callable[[int, float], Views]:
    return lambda size, strength: _twice(
        RandomResizedCrop(size, (least_area, 1.0)),
        HorizontalFlip(),
        _jitter((0.4, 0.4, 0.4, 0.1), strength),
        Grayscale(),
    )


def _crop_alone(least_area: float) -> Callable[[int, float], Views]:
    return lambda size, strength: _twice(RandomResizedCrop(size, (least_area, 1.0)))


_SIGMA = "blur's deviation 0.1 to 2 and taps, a tenth of the side, as SimCLR's"
PROTOCOLS: dict[str, Published] = {
    "simclr": Published(
        "Chen et al. 2020, SimCLR, Appendix A; normalised as in lightly",
        224,
        IMAGENET,
        _simclr,
    ),
    "simclr_cifar": Published(
        "Chen et al. 2020, SimCLR, Appendix B.9: strength 0.5, no blur",
        32,
        CIFAR10,
        _simclr_without_blur,
        strength=0.5,
    ),
    "s0_simclr": Published(
        "Kalibhat et al. 2022, which lists the operations; strengths as SimCLR's",
        224,
        IMAGENET,
        _simclr,
    ),
    "s3_protocol": Published(
        "Ben-Shaul et al. 2023, Appendix A.1; blur's deviation as SimCLR's",
        32,
        IMAGENET,
        _reverse_engineering,
    ),
    "vicreg": Published(
        f"Bardes et al. 2022, facebookresearch/vicreg; {_SIGMA}",
        224,
        IMAGENET,
        _unequal_views,
    ),
    "barlow": Published(
        f"Zbontar et al. 2021, facebookresearch/barlowtwins; {_SIGMA}",
        224,
        IMAGENET,
        _unequal_views,
    ),
    "byol": Published(
        f"Grill et al. 2020, Appendix B, as lightly has it; {_SIGMA}",
        224,
        IMAGENET,
        _unequal_views,
    ),
    "moco_v1": Published(
        "He et al. 2020, after Wu et al. 2018; facebookresearch/moco",
        224,
        IMAGENET,
        _moco_v1,
    ),
    "moco_v2": Published(
        "Chen, Fan et al. 2020, facebookresearch/moco; blur's taps as SimCLR's",
        224,
        IMAGENET,
        _moco_v2,
    ),
    "fastssl": Published(
        "Agrawal et al. 2022, kumarkrishna/fastssl, with hue 0.1; no blur",
        32,
        CIFAR10,
        _small_images(0.08),
    ),
    "supcon_cifar": Published(
        "Khosla et al. 2020, HobbitLong/SupContrast",
        32,
        CIFAR10,
        _small_images(0.2),
    ),
    "randbit_mnist": Published(
        "Chen, Luo, Li 2021, google-research/simclr, intriguing_properties",
        28,
        None,
        _crop_alone(0.5),
        strength=None,
    ),
    "digits16": Published(
        "of this project, for the digits of scikit-learn; no flip, which would change "
        "what a digit means",
        16,
        None,
        _crop_alone(0.4),
        strength=None,
    ),
}


def protocol(
    name: str,
    *,
    size: int | None = None,
    strength: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Protocol:
    """Return a published protocol, at its own or another size and strength.

    Args:
        name: one of `PROTOCOLS`.
        size: side of the views in pixels; the published one by default.
        strength: factor on the colour jitter, 0 or more (s in SimCLR).
        mean: per channel, of values in [0, 1], together with `std`; what is published
            by default.
        std: per channel.

    Raises:
        UsageError: for an unknown name, a strength where there is no jitter, or mean
            without std.

    Example:
        >>> protocol("digits16").size
        16
    """
    check_choice("protocol", name, PROTOCOLS)
    published = PROTOCOLS[name]
    if strength is not None and published.strength is None:
        raise UsageError(
            f"strength: the protocol {name} has no colour jitter",
            found=f"{strength:g}",
            fix="leave strength out, or choose another protocol",
        )
    if (mean is None) != (std is None):
        raise UsageError("mean and std: give both or neither")
    statistics = published.statistics
    if mean is not None and std is not None:
        statistics = (tuple(mean), tuple(std))
    chosen = published.strength if strength is None else strength
    views = published.build(
        published.size if size is None else size, 1.0 if chosen is None else chosen
    )
    if statistics is not None:
        views = tuple((*view, Normalize(*statistics)) for view in views)
    return Protocol(name, views, published.source)


def strength_sweep(
    base: Protocol, axis: Axis, levels: Iterable[Any] | None = None
) -> tuple[Protocol, ...]:
    """Return the protocol once per level of one operation, all else kept.

    Args:
        base: which must have the operation.
        axis: "crop": levels are names of `CROP_STRENGTHS` or pairs of area shares;
            "color": factors on SimCLR's jitter (0.8, 0.8, 0.8, 0.2); "blur" and
            "gray": probabilities.
        levels: weakest first; by default the tables of this module.

    Raises:
        UsageError: where the protocol lacks the operation, or a level is impossible.

    Source: Appalaraju et al. 2020, Tables 2a and 2b, for crop and colour.
    """
    check_choice("axis", axis, _AXES)
    kind, change, table = _AXES[axis]
    if not any(isinstance(one, kind) for view in base.views for one in view):
        raise UsageError(
            f"axis: {axis} cannot vary, as the protocol {base.name} has no "
            f"{kind.__name__}",
            fix="choose another axis or another protocol",
        )
    return tuple(
        dataclasses.replace(
            base,
            name=f"{base.name} {axis}={_level_name(level)}",
            views=tuple(
                tuple(
                    change(one, level) if isinstance(one, kind) else one for one in view
                )
                for view in base.views
            ),
        )
        for level in (table if levels is None else levels)
    )


def _change_crop(crop: RandomResizedCrop, level: Any) -> RandomResizedCrop:
    if isinstance(level, str):
        check_choice("level", level, CROP_STRENGTHS)
        level = CROP_STRENGTHS[level]
    if not isinstance(level, Sequence) or len(level) != 2:
        raise UsageError(
            "level: a crop needs the least and the largest share of the area",
            found=str(level),
            expected="a pair such as (0.2, 1.0), or " + ", ".join(CROP_STRENGTHS),
        )
    return dataclasses.replace(crop, scale=(level[0], level[1]))


def _change_colour(jitter: ColorJitter, level: float) -> ColorJitter:
    return dataclasses.replace(
        _jitter(SIMCLR_JITTER, level, p=jitter.p), hue_method=jitter.hue_method
    )


def _change_probability(operation: Any, level: float) -> Any:
    return dataclasses.replace(operation, p=level)


def _level_name(level: Any) -> str:
    if isinstance(level, str):
        return level
    return "-".join(f"{one:g}" for one in np.atleast_1d(level))


_AXES: dict[str, tuple[type, Callable[[Any, Any], Operation], Iterable[Any]]] = {
    "crop": (RandomResizedCrop, _change_crop, CROP_STRENGTHS),
    "color": (ColorJitter, _change_colour, COLOUR_STRENGTHS),
    "blur": (GaussianBlur, _change_probability, PROBABILITIES),
    "gray": (Grayscale, _change_probability, PROBABILITIES),
}
