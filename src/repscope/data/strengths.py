"""How do views change as one operation gets stronger, and all others stay?

The levels of the published tables are here. In a recipe, `augmentation.crop_minimum`
and `augmentation.crop_maximum` reach those of Table 2a, and `augmentation.strength`
those of Table 2b in protocols whose jitter is SimCLR's (simclr, simclr_cifar,
s0_simclr, swav); `augmentation.gray` and `augmentation.blur` are probabilities.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from repscope._checking import UsageError, check_choice
from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Operation,
    RandomResizedCrop,
)
from repscope.data.protocols import Protocol
from repscope.data.published_views import SIMCLR_JITTER, View, jitter_of, side_of

Axis = Literal["crop", "color", "blur", "gray"]

# Appalaraju et al. 2020, Table 2a: least and largest share of the area.
CROP_STRENGTHS = {"baseline": (0.2, 1.0), "medium": (0.2, 0.5), "extreme": (0.02, 0.1)}
# Appalaraju et al. 2020, Table 2b, whose header is lost: SimCLR's grid, which it cites.
COLOUR_STRENGTHS = (1 / 8, 1 / 4, 1 / 2, 1.0)
# Probabilities of blur and grey; no table of theirs is published.
PROBABILITIES = (0.0, 0.2, 0.5, 1.0)


def strength_sweep(
    base: Protocol, axis: Axis, levels: Iterable[Any] | None = None
) -> tuple[Protocol, ...]:
    """Return the protocol once per level of one operation, all else kept.

    Args:
        base: which must have the operation.
        axis: as `with_strength`.
        levels: as `with_strength`, weakest first; by default the tables of this module.

    Raises:
        UsageError: as `with_strength`.

    Source: Appalaraju et al. 2020, Tables 2a and 2b, for crop and colour.
    """
    check_choice("axis", axis, _AXES)
    chosen = _AXES[axis][2] if levels is None else levels
    return tuple(with_strength(base, axis, level) for level in chosen)


def with_strength(base: Protocol, axis: Axis, level: Any) -> Protocol:
    """Return the protocol with one operation at a level, all else kept.

    What distinguishes the views stays: small crops of multi-crop keep their area, each
    jitter its probability, and where one view is blurred more often than another, it
    is so by the same factor.

    Args:
        base: which must have the operation.
        axis: "crop": the level is a name of `CROP_STRENGTHS` or a pair of area shares;
            "color": a factor on SimCLR's jitter (0.8, 0.8, 0.8, 0.2); "blur" and
            "gray": the probability in the view that has it most often.
        level: of the axis.

    Raises:
        UsageError: where the protocol lacks the operation, or a level is impossible.

    Example:
        >>> from repscope.data.protocols import protocol
        >>> with_strength(protocol("digits16"), "crop", "medium").views[0][0].scale
        (0.2, 0.5)
    """
    check_choice("axis", axis, _AXES)
    kind, change, _ = _AXES[axis]
    found = [one for view in base.views for one in view if isinstance(one, kind)]
    if not found:
        raise UsageError(
            f"axis: {axis} cannot vary, as the protocol {base.name} has no "
            f"{kind.__name__}",
            fix="choose another axis or another protocol",
        )
    # Of a level that is impossible, what is wrong with it is said of the level itself.
    change(found[0], level, found[:1])

    def changed(view: View) -> View:
        if axis == "crop" and side_of(view) != base.size:
            return view  # a small crop
        return tuple(
            change(one, level, found) if isinstance(one, kind) else one for one in view
        )

    name = f"{base.name} {axis}={_level_name(level)}"
    return dataclasses.replace(
        base, name=name, views=tuple(changed(view) for view in base.views)
    )


def _change_crop(
    crop: RandomResizedCrop, level: Any, _: Sequence[Any]
) -> RandomResizedCrop:
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


def _change_colour(jitter: ColorJitter, level: float, _: Sequence[Any]) -> ColorJitter:
    return dataclasses.replace(
        jitter_of(SIMCLR_JITTER, level, p=jitter.p), hue_method=jitter.hue_method
    )


def _change_probability(operation: Any, level: float, alike: Sequence[Any]) -> Any:
    most = max(one.p for one in alike)
    share = operation.p / most if most else 1.0
    return dataclasses.replace(operation, p=level * share)


def _level_name(level: Any) -> str:
    if isinstance(level, str):
        return level
    return "-".join(f"{one:g}" for one in np.atleast_1d(level))


_Change = Callable[[Any, Any, Sequence[Any]], Operation]
_AXES: dict[str, tuple[type, _Change, Iterable[Any]]] = {
    "crop": (RandomResizedCrop, _change_crop, CROP_STRENGTHS),
    "color": (ColorJitter, _change_colour, COLOUR_STRENGTHS),
    "blur": (GaussianBlur, _change_probability, PROBABILITIES),
    "gray": (Grayscale, _change_probability, PROBABILITIES),
}
