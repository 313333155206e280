"""What changes during training, and how does one step change it?

Weights, statistics of normalisation, what the objective remembers, the optimiser's
memory and the counters live here and nowhere else, in one tree that a checkpoint holds.
A step whose loss or gradient is no number leaves everything but the counters as it was.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repscope._checking import InputError
from repscope._distributed import n_ranks
from repscope.models.backbones import Backbone
from repscope.models.encoder import append_planes
from repscope.models.initialisation import generator_of
from repscope.models.predictors import Prototypes
from repscope.objectives.batch import ViewBatch
from repscope.objectives.gathering import gathered
from repscope.objectives.objective import AbstractMemoryObjective, MemorySizes
from repscope.training.batches import Batch
from repscope.training.networks import Outputs, built, follow_, width_of
from repscope.training.optimisers import build_optimiser, set_learning_rate
from repscope.training.preparation import Prepared
from repscope.training.schedules import momentum_at
from repscope.training.shuffling import shuffled_outputs

Losses = dict[str, float | None]

GRADIENT_NORM = "gradient_norm"
# Of the first contents of an objective's memory.
_MEMORY_STREAM = 5


class Learner:
    """The networks, the objective's memory and the optimiser of a run.

    Args:
        prepared: what is trained.
        device: where.
        total_steps: of the whole run, on which the target's momentum may depend.
    """

    def __init__(
        self, prepared: Prepared, device: torch.device, *, total_steps: int = 1
    ) -> None:
        training = prepared.recipe.training
        self._objective = prepared.objective
        self._needs = prepared.objective.needs
        self._seed, self._total_steps = training.seed, total_steps
        self._format = (
            torch.channels_last if training.channels_last else torch.contiguous_format
        )
        self._device = device
        self._precision = precision_of(training.precision, device)
        self._is_shuffled = n_ranks() > 1 or training.bn_splits > 1
        self.networks = built(prepared).to(  # type: ignore[call-overload]
            device=device, memory_format=self._format
        )
        self.target = None
        if self._needs.target is not None:
            self.target = built(prepared, is_target=True).to(  # type: ignore[call-overload]
                device=device, memory_format=self._format
            )
        self.memory = self._first_memory(prepared)
        self._pass = _passing(self.networks, device, is_compiled=training.compile)
        parameters = list(self.networks.parameters())
        self._trained = [one for one in parameters if one.requires_grad]
        self.optimiser = build_optimiser(prepared.recipe.optimiser, parameters)
        self.step = 0
        self.nonfinite_in_row = 0
        self.nonfinite_total = 0
        self.losses: Losses = {}
        self.origin = ""  # of the first weights, where they were not drawn

    @property
    def backbone(self) -> Backbone:
        """The network that becomes the encoder."""
        return self.networks.backbone

    @property
    def head(self) -> nn.Module:
        """The network from representations to projections."""
        return self.networks.head

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as tensors and plain values, not copied."""
        networks, target = self.networks, self.target
        predictor = networks.predictor
        return {
            "backbone": dict(networks.backbone.state_dict()),
            "head": dict(networks.head.state_dict()),
            "predictor": {} if predictor is None else dict(predictor.state_dict()),
            "target": {} if target is None else dict(target.state_dict()),
            "memory": dict(self.memory),
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
            self.networks.backbone.load_state_dict(state["backbone"])
            self.networks.head.load_state_dict(state["head"])
            if self.networks.predictor is not None:
                self.networks.predictor.load_state_dict(state["predictor"])
            if self.target is not None:
                self.target.load_state_dict(state["target"])
            for name, values in self.memory.items():
                values.copy_(state["memory"][name])
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

    def begin_with(self, weights: Mapping[str, Tensor], origin: str) -> None:
        """Take over the weights of a backbone, also for the network that follows it.

        Args:
            weights: that fit.
            origin: a word on where they come from.
        """
        self.networks.backbone.load_state_dict(dict(weights))
        if self.target is not None:
            self.target.backbone.load_state_dict(dict(weights))
        self.origin = origin

    def take_step(
        self,
        batch: Batch,
        views: tuple[Float[Tensor, "n c _ _"], ...],
        *,
        learning_rate: float,
    ) -> bool:
        """Do one step; return False where it was skipped.

        It is skipped, and only counted, where the loss or a gradient is no number.

        Args:
            batch: the images of this rank.
            views: of them, on the device, normalised, without planes: as many as the
                objective needs.
            learning_rate: of this step.
        """
        self.networks.train()
        buffers = list(self.networks.buffers())
        if self.target is not None:
            self.target.train()
            buffers += self.target.buffers()
        before = [buffer.clone() for buffer in buffers]
        self.optimiser.zero_grad(set_to_none=True)
        seen = self._seen(batch, views)
        self.losses = self._descend(seen)
        finite = (
            self.losses["total"] is not None and self.losses[GRADIENT_NORM] is not None
        )
        if finite:
            self._move(learning_rate)
            if isinstance(self._objective, AbstractMemoryObjective):
                with torch.no_grad():
                    self._objective.remember_(seen)
            self.nonfinite_in_row = 0
        else:
            with torch.no_grad():
                for buffer, value in zip(buffers, before, strict=True):
                    buffer.copy_(value)
            self.nonfinite_in_row += 1
            self.nonfinite_total += 1
        self.step += 1
        return finite

    def _first_memory(self, prepared: Prepared) -> dict[str, Tensor]:
        objective, networks = self._objective, self.networks
        if not isinstance(objective, AbstractMemoryObjective):
            return {}
        width = width_of(networks.head, networks.backbone.feature_dim)
        predicted = 0
        if isinstance(networks.predictor, Prototypes):
            predicted = len(networks.predictor.weight)
        elif networks.predictor is not None:
            predicted = width_of(networks.predictor, width)
        drawn = objective.first_memory(
            MemorySizes(prepared.images.n, width, predicted),
            generator_of(self._seed, _MEMORY_STREAM),
        )
        return {name: values.to(self._device) for name, values in drawn.items()}

    def _seen(
        self, batch: Batch, views: tuple[Float[Tensor, "n c _ _"], ...]
    ) -> ViewBatch:
        """Return what the networks make of the views, of all ranks."""
        ready = [self._input(view, batch) for view in views]
        with self._lowered():
            outputs = self._pass(ready[: self._needs.trained_views])
        own = ViewBatch(
            h=outputs.h,
            z=outputs.z,
            predictions=outputs.predictions,
            targets=self._targets(ready),
            ids=self._of_each(batch.rows),
            labels=None if batch.labels is None else self._of_each(batch.labels),
            memory=self.memory,
            prototypes=self._prototypes(),
            step=self.step,
            epoch=batch.epoch,
            seed=self._seed,
        )
        return gathered(own)

    def _targets(
        self, views: list[Float[Tensor, "n c _ _"]]
    ) -> tuple[Float[Tensor, "n m"], ...]:
        """Return the projections of the second network, of this rank's images."""
        if self.target is None or self._needs.target is None:
            return ()
        chosen = [views[place] for place in self._needs.target.views]
        with torch.no_grad(), self._lowered():
            if self._needs.target.shuffled and self._is_shuffled:
                outputs: Outputs = shuffled_outputs(
                    self.target, chosen, seed=self._seed, step=self.step
                )
            else:
                outputs = self.target(chosen)
        return outputs.z

    def _prototypes(self) -> Float[Tensor, "k m"] | None:
        predictor = self.networks.predictor
        return predictor.weight.detach() if isinstance(predictor, Prototypes) else None

    def _descend(self, seen: ViewBatch) -> Losses:
        """Compute gradients; return the numbers of the loss, None for no number."""
        output = self._objective(seen)
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

    def _move(self, learning_rate: float) -> None:
        """Change the weights by their gradients, and let the target follow."""
        predictor, target = self.networks.predictor, self._needs.target
        if predictor is not None and self.step < self._needs.frozen_predictor_steps:
            for parameter in predictor.parameters():
                parameter.grad = None
        set_learning_rate(self.optimiser, learning_rate)
        self.optimiser.step()
        if isinstance(predictor, Prototypes):
            predictor.normalize_()
        if self.target is not None and target is not None:
            momentum = momentum_at(
                self.step,
                base=target.momentum,
                total_steps=self._total_steps,
                schedule=target.schedule,
            )
            follow_(self.target, self.networks, momentum)

    def _lowered(self) -> torch.autocast:
        """Return the context in which networks compute in the recipe's precision."""
        kind = self._device.type
        return torch.autocast(
            kind, self._precision, enabled=self._precision != torch.float32
        )

    def _of_each(self, values: Int[np.ndarray, " n"]) -> Int[Tensor, " n"]:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)

    def _input(
        self, view: Float[Tensor, "n c h w"], batch: Batch
    ) -> Float[Tensor, "n d h w"]:
        if batch.planes is not None:
            view = append_planes(view, batch.planes)
        return view.contiguous(memory_format=self._format)


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """Return in which type the networks compute on a device.

    Args:
        name: "float32", "bfloat16", or "auto": bfloat16 on a GPU that has it.
        device: of the networks.
    """
    is_fit = device.type == "cuda" and torch.cuda.is_bf16_supported()
    lowered = name == "bfloat16" or (name == "auto" and is_fit)
    return torch.bfloat16 if lowered else torch.float32


def _passing(networks: nn.Module, device: torch.device, *, is_compiled: bool) -> Any:
    """Return what passes views through the networks, and averages over ranks."""
    passing: Any = networks
    if n_ranks() > 1:
        places = None if device.type == "cpu" else [device]
        passing = nn.parallel.DistributedDataParallel(networks, device_ids=places)
    return torch.compile(passing) if is_compiled else passing
