"""What does an objective see, and what does it answer? Two records, checked once.

An objective takes one `ViewBatch` and returns one `LossOutput`. Views are the augmented
copies of the same images: row i of each belongs to image i.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from repscope._checking import InputError

# Below this many images there is no negative, and no variance.
LEAST_IMAGES = 2
LEAST_VIEWS = 2


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """The views of one batch of images, as the networks gave them.

    Args:
        h: representations, (n, d) for each view; () where only `z` is at hand.
        z: projections, (n, m) for each view that passed the trained network; n from 2.
        predictions: (n, p) for each view in `z`, of the network after the head; () for
            none.
        targets: (n, m) for each view that passed the second network, without gradient;
            () for none.
        ids: (n,) of the images: their rows in the set.
        labels: (n,) of the images.
        memory: what the objective remembers, by name.
        prototypes: (k, m) rows that predictions are scores of, without gradient; None
            where there are none.
        step: how many steps were taken before.
        epoch: how many epochs were finished before.
        seed: of what the objective draws.

    Raises:
        InputError: where there is no view, or fewer than two images, views differ in
            shape, or they hold no floating-point numbers.
    """

    h: tuple[Shaped[Tensor, "..."], ...]
    z: tuple[Shaped[Tensor, "..."], ...]
    predictions: tuple[Shaped[Tensor, "..."], ...] = ()
    targets: tuple[Shaped[Tensor, "..."], ...] = ()
    ids: Shaped[Tensor, "..."] | None = None
    labels: Shaped[Tensor, "..."] | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    prototypes: Shaped[Tensor, "k m"] | None = None
    step: int = 0
    epoch: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.z:
            raise InputError("z: no view", fix="give one projection for each view")
        _check_views("z", self.z)
        rows = len(self.z[0])
        others = {
            "h": self.h,
            "predictions": self.predictions,
            "targets": self.targets,
        }
        for name, views in others.items():
            if views:
                _check_views(name, views)
                _check_rows(name, views[0], rows)
        for name, values in (("ids", self.ids), ("labels", self.labels)):
            if values is not None:
                _check_rows(name, values, rows)


@dataclass(frozen=True, eq=False)
class LossOutput:
    """A loss, its two parts and what is worth logging beside them; all scalars.

    Args:
        total: what is minimised.
        invariance: the part that only pulls views of one image together.
        regularization: all that keeps the features from collapsing. total is
            invariance + regularization; both are None where a loss has no such split.
        parts: the terms without their weights, by name; no gradient.
        stats: other numbers, by name; no gradient.
    """

    total: Float[Tensor, ""]
    invariance: Float[Tensor, ""] | None
    regularization: Float[Tensor, ""] | None
    parts: dict[str, Float[Tensor, ""]]
    stats: dict[str, Float[Tensor, ""]]

    def scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return all numbers by name, without gradient; parts that do not exist miss.

        The names "total", "invariance" and "regularization" come first.
        """
        split = {
            "total": self.total,
            "invariance": self.invariance,
            "regularization": self.regularization,
        }
        known = {name: one.detach() for name, one in split.items() if one is not None}
        return known | self.parts | self.stats


def split_loss(
    invariance: Float[Tensor, ""],
    regularization: Float[Tensor, ""],
    *,
    parts: dict[str, Float[Tensor, ""]],
    stats: dict[str, Float[Tensor, ""]],
) -> LossOutput:
    """Return the output of a loss that is the sum of two parts."""
    return LossOutput(
        total=invariance + regularization,
        invariance=invariance,
        regularization=regularization,
        parts={name: value.detach() for name, value in parts.items()},
        stats={name: value.detach() for name, value in stats.items()},
    )


def exact_views(
    views: tuple[Shaped[Tensor, "n m"], ...],
) -> tuple[Float[Tensor, "n m"], ...]:
    """Return the views in float32, or in float64 where they are float64.

    Sums of exponentials and of squares over a batch lose their small terms in half
    precision.
    """
    return tuple(
        view if view.dtype == torch.float64 else view.to(torch.float32)
        for view in views
    )


def full_precision(views: tuple[Shaped[Tensor, "n m"], ...]) -> torch.autocast:
    """Return a context in which autocast does not lower products to half precision."""
    return torch.autocast(device_type=views[0].device.type, enabled=False)


def mean_of(values: list[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """Return the mean of some numbers, of views or of pairs of them."""
    return torch.stack(values).mean()


def pairs_of(
    views: tuple[Float[Tensor, "n m"], ...],
) -> list[tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]]:
    """Return each pair of views once.

    An objective that is symmetric in its two views takes the mean over these pairs: it
    is that over ordered pairs, at half the work.

    Raises:
        InputError: where there are fewer than two views.
    """
    if len(views) < LEAST_VIEWS:
        raise InputError(
            "this objective compares views of the same images",
            found=f"{len(views)} view",
            expected="at least two",
            fix="give one projection for each view: z=(view_a, view_b)",
        )
    return list(itertools.combinations(views, 2))


def _check_views(name: str, views: tuple[Tensor, ...]) -> None:
    shapes = [tuple(view.shape) for view in views]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise InputError(
            f"{name}: the views differ in shape or are no tables",
            found=" and ".join(str(shape) for shape in shapes),
            expected="one shape (n, d) for all, row i for image i",
        )
    if shapes[0][0] < LEAST_IMAGES:
        raise InputError(
            f"{name}: a batch of {shapes[0][0]} has no other image to compare with",
            expected=f"at least {LEAST_IMAGES} images",
            fix="raise training.batch_size, or leave out the last, incomplete batch",
        )
    dtypes = {view.dtype for view in views}
    if len(dtypes) > 1 or not views[0].is_floating_point():
        raise InputError(
            f"{name}: the views must hold floating-point numbers of one type",
            found=", ".join(sorted(str(dtype) for dtype in dtypes)),
        )


def _check_rows(name: str, values: Tensor, rows: int) -> None:
    if values.ndim == 0 or len(values) != rows:
        raise InputError(
            f"{name}: one entry per image is needed",
            found=f"shape {tuple(values.shape)}",
            expected=f"{rows} rows, as z has",
        )
