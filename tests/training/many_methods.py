"""A small recipe for every objective, and what two steps by it change."""

import torch

from repscope._distributed import n_ranks, rank
from repscope.objectives.catalogue import OBJECTIVES
from repscope.training.batch_views import views_of_batch
from repscope.training.batches import Share, batches
from repscope.training.beginning import begun
from training.tiny_runs import recipe_with, tiny_images

# Seven images cannot be shared evenly by two or three processes.
BATCH = 7

# Method → what its recipe says beside that of tiny_runs.
METHODS = {
    "nt_xent": [],
    "supcon": ["objective.options.temperature=0.2"],
    "joint": [],
    "spectral": [],
    "moco": ["objective.options.queue=14"],
    "moco_symmetric": [
        "objective.options.queue=28",
        "objective.options.symmetric=true",
    ],
    "moco_hard": [
        "objective.options.queue=14",
        "objective.options.mining=skew_normal",
    ],
    "inst_disc": [],
    "inst_disc_nce": ["objective.options.negatives=5"],
    "byol": ["predictor.hidden=12"],
    "simsiam": [],
    "swav": ["predictor.out=6", "objective.options.frozen_steps=1"],
    "swav_queue": [
        "predictor.out=6",
        "objective.options.frozen_steps=0",
        "objective.options.queue=14",
        "objective.options.queue_from_epoch=0",
    ],
    "barlow_twins": [],
    "vicreg": [],
    "cross_entropy": [],
}


def recipe_of(method: str, *words: str):
    """Return a tiny recipe by a method."""
    return recipe_with(
        f"objective.name={objective_of(method)}", *METHODS[method], *words
    )


def objective_of(method: str) -> str:
    """Return the objective of a method: its name, or what stands before its variant."""
    return next(name for name in OBJECTIVES if method.startswith(name))


def after_two_steps(method: str) -> dict[str, torch.Tensor]:
    """Return gradients of the second step, and all that two steps left, in float64."""
    words = (f"training.batch_size={BATCH}", "training.batch_norm=global")
    recipe = recipe_of(method, *words)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the networks and of what is remembered
    try:
        run = begun(
            recipe, tiny_images(), None, resume=False, device=torch.device("cpu")
        )
    finally:
        torch.set_default_dtype(usual)
    learner, prepared = run.learner, run.prepared
    stream = batches(
        prepared.images,
        prepared.preprocess,
        run.plan,
        labels=prepared.labels,
        share=Share(rank(), n_ranks()),
    )
    for _, batch in zip(range(2), stream, strict=False):
        seen = tuple(
            view.double()
            for view in views_of_batch(batch, prepared, torch.device("cpu"))
        )
        assert learner.take_step(batch, seen, learning_rate=0.01)
    found = {
        f"gradient {name}": one.grad.clone()
        for name, one in learner.networks.named_parameters()
        if one.grad is not None
    }
    state = learner.state()
    for part in ("backbone", "head", "predictor", "target", "memory"):
        found |= {f"{part} {name}": one.clone() for name, one in state[part].items()}
    losses = [value for value in state["losses"].values() if value is not None]
    return found | {"losses": torch.tensor(losses, dtype=torch.float64)}
