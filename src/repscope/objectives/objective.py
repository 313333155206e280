"""What is an objective? What it must be given, what it answers, what it remembers.

An objective is a frozen record of its options, called with one `ViewBatch`. It holds
no network and no state: networks are the learner's, and what it remembers from step to
step is a table of tensors that is handed to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from repscope.objectives.batch import LossOutput, ViewBatch

# Name → tensor; of the learner's state, and saved with it.
Memory = Mapping[str, Tensor]
MomentumSchedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Target:
    """A second network whose weights follow those of the trained one, without gradient.

    After each step theta_target <- m theta_target + (1 - m) theta, for all parameters
    of backbone and head; statistics of normalisation are its own.

    Args:
        views: which views pass it, counted from 0.
        momentum: m at the first step, 0 to 1.
        schedule: "constant", or "cosine": 1 - (1 - m) (1 + cos(pi step / steps)) / 2,
            which ends at 1.
        shuffled: whether its rows pass in another order than those of the trained
            network, and are put back afterwards: where normalisation takes groups of
            rows together, no group may be the same in both.
    """

    views: tuple[int, ...]
    momentum: float
    schedule: MomentumSchedule = "constant"
    shuffled: bool = False


@dataclass(frozen=True)
class Needs:
    """What an objective must be given beside the projections of views.

    Args:
        least_views: how many views the protocol must make.
        trained_views: the first so many of them pass the trained network; None for all.
        target: the second network; None for none.
        predictor: the name of the network after the head that it works with by
            default; None where there must be none.
        frozen_predictor_steps: steps at the beginning that leave the predictor as it
            is.
        labels: whether each image must have a label.
        divisor: batches must divide this number evenly; None for any batch.
    """

    least_views: int = 2
    trained_views: int | None = None
    target: Target | None = None
    predictor: str | None = None
    frozen_predictor_steps: int = 0
    labels: bool = False
    divisor: int | None = None


def views_needed(needs: Needs) -> int | None:
    """Return how many views an objective works with; None for all there are."""
    if needs.trained_views is None:
        return None
    seen = () if needs.target is None else needs.target.views
    return max(needs.trained_views, *(view + 1 for view in seen), 1)


@dataclass(frozen=True)
class MemorySizes:
    """What the sizes of a memory depend on.

    Args:
        n_images: in the set that is trained on.
        width: of the projections.
        predicted: outputs of the predictor; 0 where there is none.
    """

    n_images: int
    width: int
    predicted: int = 0


class AbstractObjective(ABC):
    """A loss of views, in two named parts."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What it must be given."""

    @abstractmethod
    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of a batch; nothing is changed."""


class AbstractMemoryObjective(AbstractObjective):
    """A loss that remembers something of the batches before, in `batch.memory`."""

    @abstractmethod
    def first_memory(
        self, sizes: MemorySizes, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return what it remembers before the first step, on the CPU.

        Args:
            sizes: of images and projections.
            generator: of all that is drawn.
        """

    @abstractmethod
    def remember_(self, batch: ViewBatch) -> None:
        """Change the tensors of `batch.memory` in place, after a step that was taken.

        Args:
            batch: of that step, as the loss saw it.
        """
