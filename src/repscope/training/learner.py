"""What changes during training, and how does one step change it?

Weights, statistics of normalisation, the optimiser's memory and the counters live here
and nowhere else, in one tree that a checkpoint holds. A step whose loss or gradient is
no number leaves everything but the counters as it was.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repscope._checking import InputError
from repscope.models.backbones import Backbone, build
from repscope.models.encoder import append_planes
from repscope.models.heads import build_head
from repscope.objectives.batch import ViewBatch
from repscope.training.batches import Batch
from repscope.training.optimisers import build_optimiser, set_learning_rate
from repscope.training.preparation import Prepared

Losses = dict[str, float | None]

GRADIENT_NORM = "gradient_norm"


class Learner:
    """The networks and the optimiser of a run.

    Args:
        prepared: what is trained.
        device: where.
    """

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        recipe = prepared.recipe
        self._objective = prepared.objective
        self._format = (
            torch.channels_last
            if recipe.training.channels_last
            else torch.contiguous_format
        )
        self._device = device
        backbone = build(prepared.architecture, seed=recipe.training.seed)
        head = build_head(
            prepared.head, backbone.feature_dim, seed=recipe.training.seed
        )
        self.backbone: Backbone = backbone.to(  # type: ignore[call-overload]
            device=device, memory_format=self._format
        )
        self.head: nn.Module = head.to(device)
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self._trained = [one for one in parameters if one.requires_grad]
        self._buffers = [*self.backbone.buffers(), *self.head.buffers()]
        self.optimiser = build_optimiser(recipe.optimiser, parameters)
        self.step = 0
        self.nonfinite_in_row = 0
        self.nonfinite_total = 0
        self.losses: Losses = {}
        self.origin = ""  # of the first weights, where they were not drawn

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as tensors and plain values, not copied."""
        return {
            "backbone": dict(self.backbone.state_dict()),
            "head": dict(self.head.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "nonfinite_in_row": self.nonfinite_in_row,
            "nonfinite_total": self.nonfinite_total,
            "losses": dict(self.losses),
            "origin": self.origin,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` gave.

        Raises:
            InputError: where it is that of another network or optimiser.
        """
        try:
            self.backbone.load_state_dict(state["backbone"])
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = int(state["step"])
            self.nonfinite_in_row = int(state["nonfinite_in_row"])
            self.nonfinite_total = int(state["nonfinite_total"])
            self.losses = dict(state["losses"])
            self.origin = str(state["origin"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"the checkpoint does not fit the recipe: {error}",
                fix="start the run again with --overwrite (overwrite=True in Python)",
            ) from error

    def take_step(
        self,
        batch: Batch,
        views: tuple[Float[Tensor, "n c h w"], ...],
        *,
        learning_rate: float,
    ) -> bool:
        """Do one step; return False where it was skipped.

        It is skipped, and only counted, where the loss or a gradient is no number.

        Args:
            batch: the images.
            views: of them, on the device, normalised, without planes.
            learning_rate: of this step.
        """
        self.backbone.train()
        self.head.train()
        before = [buffer.clone() for buffer in self._buffers]
        self.optimiser.zero_grad(set_to_none=True)
        self.losses = self._descend(batch, views)
        finite = (
            self.losses["total"] is not None and self.losses[GRADIENT_NORM] is not None
        )
        if finite:
            set_learning_rate(self.optimiser, learning_rate)
            self.optimiser.step()
            self.nonfinite_in_row = 0
        else:
            with torch.no_grad():
                for buffer, value in zip(self._buffers, before, strict=True):
                    buffer.copy_(value)
            self.nonfinite_in_row += 1
            self.nonfinite_total += 1
        self.step += 1
        return finite

    def _descend(
        self, batch: Batch, views: tuple[Float[Tensor, "n c h w"], ...]
    ) -> Losses:
        """Compute gradients; return the numbers of the loss, None for no number."""
        # Each view passes alone: its batch statistics are its own, as in the authors'
        # code of VICReg and Barlow Twins (SimCLR's joins the views).
        h = tuple(self.backbone(self._input(view, batch)) for view in views)
        z = tuple(self.head(one) for one in h)
        output = self._objective(
            ViewBatch(
                h=h,
                z=z,
                ids=self._of_each(batch.rows),
                labels=None if batch.labels is None else self._of_each(batch.labels),
            )
        )
        output.total.backward()
        gradients = [one.grad for one in self._trained if one.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        numbers = {**output.scalars(), GRADIENT_NORM: norm}
        # one way from the device for all of them
        scalars = [one.detach().double() for one in numbers.values()]
        values = torch.stack(scalars).tolist()
        return {
            name: value if math.isfinite(value) else None
            for name, value in zip(numbers, values, strict=True)
        }

    def _of_each(self, values: Int[np.ndarray, " n"]) -> Int[Tensor, " n"]:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)

    def _input(
        self, view: Float[Tensor, "n c h w"], batch: Batch
    ) -> Float[Tensor, "n d h w"]:
        if batch.planes is not None:
            view = append_planes(view, batch.planes)
        return view.contiguous(memory_format=self._format)
