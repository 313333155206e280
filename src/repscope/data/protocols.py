"""Which augmentations did the published methods train with?

A protocol is a list of operations per view. `PROTOCOLS` holds those of the literature
with their sources; `repscope.data.strengths` varies one of them along an axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from repscope._checking import UsageError, check_choice
from repscope.data import published_views
from repscope.data.operations import (
    AutoAugment,
    Normalize,
    RandomResizedCrop,
    describe,
    to_dict,
)
from repscope.data.published_views import View, Views, side_of

# Mean and deviation of red, green and blue, of values in [0, 1].
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10: Statistics = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


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
        """Side of the first view in pixels; None where it keeps that of the image.

        No other view is larger, but the small crops of multi-crop are smaller.
        """
        return side_of(self.views[0])

    @property
    def resizes(self) -> bool:
        """Whether each view begins with a crop that resizes, of any image."""
        return all(
            view and isinstance(view[0], RandomResizedCrop) for view in self.views
        )

    def first(self, count: int | None) -> Views:
        """Return the first views.

        Args:
            count: how many, at least 1; None for all.

        Raises:
            UsageError: where there are not as many.
        """
        if count is not None and not 1 <= count <= len(self.views):
            raise UsageError(
                f"count: views of the protocol {self.name}",
                found=str(count),
                expected=f"1 to {len(self.views)}",
            )
        return self.views[:count]

    @property
    def kinds(self) -> tuple[tuple[str, View], ...]:
        """Views that follow one another and are alike, once each, with a title."""
        kinds, number = [], 1
        for view, alike in groupby(self.views):
            last = number + len(tuple(alike)) - 1
            title = f"view {number}" if last == number else f"views {number} to {last}"
            kinds.append((title, view))
            number = last + 1
        if len(kinds) == 1:
            n = len(self.views)
            title = "the only view" if n == 1 else f"each of {n} views"
            kinds = [(title, self.views[0])]
        return tuple(kinds)

    def describe(self) -> str:
        """Return name, source and every parameter of every operation."""
        lines = [self.name, f"  source: {self.source}"]
        for title, view in self.kinds:
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
        small_crops: how many of the views, the last ones, are small crops.
    """

    source: str
    size: int
    statistics: Statistics | None
    build: Callable[[int, float], Views]
    strength: float | None = 1.0
    small_crops: int = 0


_SIGMA = "blur's deviation 0.1 to 2 and taps, a tenth of the side, as SimCLR's"
PROTOCOLS: dict[str, Published] = {
    "simclr": Published(
        "Chen et al. 2020, SimCLR, Appendix A; normalised as in lightly",
        224,
        IMAGENET,
        published_views.simclr,
    ),
    "simclr_cifar": Published(
        "Chen et al. 2020, SimCLR, Appendix B.9: strength 0.5, no blur",
        32,
        CIFAR10,
        published_views.simclr_without_blur,
        strength=0.5,
    ),
    "s0_simclr": Published(
        "Kalibhat et al. 2022, which lists the operations; strengths as SimCLR's",
        224,
        IMAGENET,
        published_views.simclr,
    ),
    "s3_protocol": Published(
        "Ben-Shaul et al. 2023, Appendix A.1; blur's deviation as SimCLR's",
        32,
        IMAGENET,
        published_views.reverse_engineering,
    ),
    "vicreg": Published(
        f"Bardes et al. 2022, facebookresearch/vicreg; {_SIGMA}",
        224,
        IMAGENET,
        published_views.unequal_views,
    ),
    "barlow": Published(
        f"Zbontar et al. 2021, facebookresearch/barlowtwins; {_SIGMA}",
        224,
        IMAGENET,
        published_views.unequal_views,
    ),
    "byol": Published(
        f"Grill et al. 2020, Appendix B, as lightly has it; {_SIGMA}",
        224,
        IMAGENET,
        published_views.unequal_views,
    ),
    "moco_v1": Published(
        "He et al. 2020, after Wu et al. 2018; facebookresearch/moco",
        224,
        IMAGENET,
        published_views.moco_v1,
    ),
    "moco_v2": Published(
        "Chen, Fan et al. 2020, facebookresearch/moco; blur's taps as SimCLR's",
        224,
        IMAGENET,
        published_views.moco_v2,
    ),
    "fastssl": Published(
        "Agrawal et al. 2022, kumarkrishna/fastssl, with hue 0.1; no blur",
        32,
        CIFAR10,
        published_views.small_images(0.08),
    ),
    "supcon_cifar": Published(
        "Khosla et al. 2020, HobbitLong/SupContrast",
        32,
        CIFAR10,
        published_views.small_images(0.2),
    ),
    "randbit_mnist": Published(
        "Chen, Luo, Li 2021, google-research/simclr, intriguing_properties",
        28,
        None,
        published_views.crop_alone(0.5),
        strength=None,
    ),
    "digits16": Published(
        "of this project, for the digits of scikit-learn; no flip, which would change "
        "what a digit means",
        16,
        None,
        published_views.crop_alone(0.4),
        strength=None,
    ),
    "digits16_multicrop": Published(
        "of this project, for SwAV on the digits of scikit-learn; no flip, as digits16",
        16,
        None,
        published_views.multi_crop_of_digits,
        strength=None,
        small_crops=4,
    ),
    "swav": Published(
        "Caron et al. 2020, facebookresearch/swav; small crops 96/224 of the side, as "
        "an even number; normalised with ImageNet's deviation of red, of which its "
        "code has 0.228",
        224,
        IMAGENET,
        published_views.multi_crop,
        small_crops=6,
    ),
    "supervised_cifar": Published(
        "Lee et al. 2015, He et al. 2016, Section 4.2: 4 black pixels around 32, in "
        "proportion at other sizes",
        32,
        CIFAR10,
        published_views.one_view(),
        strength=None,
    ),
    "supervised_autoaugment": Published(
        "Ben-Shaul et al. 2023, which names the policy of Cubuk et al. 2019; crop and "
        "flip as supervised_cifar, before the policy, as in torchvision's recipes",
        32,
        IMAGENET,
        published_views.one_view(AutoAugment()),
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
    small_crops: int | None = None,
) -> Protocol:
    """Return a published protocol, at its own or another size and strength.

    Args:
        name: one of `PROTOCOLS`.
        size: side of the views in pixels; the published one by default. The small
            crops of multi-crop are proportional to it, and no smaller than 4.
        strength: factor on the colour jitter, 0 or more (s in SimCLR).
        mean: per channel, of values in [0, 1], together with `std`; what is published
            by default.
        std: per channel.
        small_crops: how many there are, 0 or more; the published number by default.

    Raises:
        UsageError: for an unknown name, a strength where there is no jitter, mean
            without std, or small crops where the protocol has none.

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
    if small_crops is not None:
        _check_small_crops(name, small_crops)
        n_large = len(views) - published.small_crops
        views = (*views[:n_large], *[views[-1]] * small_crops)
    if statistics is not None:
        views = tuple((*view, Normalize(*statistics)) for view in views)
    return Protocol(name, views, published.source)


def _check_small_crops(name: str, small_crops: int) -> None:
    if not PROTOCOLS[name].small_crops:
        having = [key for key, one in PROTOCOLS.items() if one.small_crops]
        raise UsageError(
            f"small_crops: the protocol {name} has none",
            found=str(small_crops),
            fix=f"leave small_crops out, or choose {' or '.join(having)}",
        )
    if small_crops < 0:
        what = "small_crops: how many there are"
        raise UsageError(what, found=str(small_crops), expected="0 or more")
