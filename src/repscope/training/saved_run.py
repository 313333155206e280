"""Which encoder did a run leave, finished or not?

A run that was stopped, was killed or has diverged leaves checkpoints and no encoder.
Its recipe says what the network is, and its latest whole checkpoint has the weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from repscope._checking import InputError
from repscope.files.file_access import local_path
from repscope.models.backbones import build
from repscope.models.encoder import Encoder
from repscope.training.batches import Plan
from repscope.training.checkpoint import (
    Checkpoint,
    State,
    load_latest,
    load_step,
    step_of,
)
from repscope.training.preparation import architecture_of, preprocess_of
from repscope.training.recipe import Recipe
from repscope.training.run_folder import (
    CHECKPOINTS_NAME,
    ENCODER_NAME,
    RECIPE_NAME,
    Surroundings,
    read_surroundings,
)

# What a checkpoint says of the steps that led to it.
_COUNTED = {"step", "losses", "nonfinite_total", "origin"}


def is_unfinished_run(path: str | Path) -> bool:
    """Return whether a path is a run without an encoder, or a checkpoint of a run.

    Args:
        path: of anything; it need not exist.
    """
    place = Path(path)
    if step_of(place.name) is not None:
        return _run_of(place, RECIPE_NAME).is_file()
    return (place / RECIPE_NAME).is_file() and not (place / ENCODER_NAME).is_file()


def encoder_of_run(folder: str | Path) -> Encoder:
    """Return the encoder of a run, in evaluation mode, on the CPU.

    Args:
        folder: of the run; or one of its checkpoints, RUN/checkpoints/step_N.pt.

    Returns:
        The encoder that the run wrote at its end; without one, or for a checkpoint, the
        encoder as it was then, whose provenance says after how many steps.

    Raises:
        InputError: where there is no run, nothing in it is whole, or a checkpoint does
            not fit the recipe.
        UsageError: where the run's recipe is damaged.
        ResourceError: where it may not be read.
    """
    path = local_path(folder)
    if (path / ENCODER_NAME).is_file():
        return Encoder.load(path / ENCODER_NAME)
    found = checkpoint_of(path)
    run = path if path.is_dir() else _run_of(path)
    weights = weights_of(found, run)
    recipe, surroundings = Recipe.load(run / RECIPE_NAME), read_surroundings(run)
    training = recipe.training
    plan = Plan(surroundings.n, training.batch_size, training.epochs, training.seed)
    facts = training_facts(recipe, surroundings, found.state)
    is_last = found.step == plan.total_steps
    reached = f"{found.step:,} of {plan.total_steps:,} steps"
    facts["outcome"] = "finished" if is_last else f"unfinished: {reached}"
    return _restored(recipe, weights, facts, run.name)


def checkpoint_of(path: Path) -> Checkpoint:
    """Return the latest whole checkpoint of a run, or the one in a file.

    Args:
        path: a run's folder, or a file in its folder of checkpoints.

    Raises:
        InputError: where there is none, or it is damaged.
    """
    step = step_of(path.name)
    if path.is_file() and step is not None:
        return load_step(path.parent, step)
    if not (path / CHECKPOINTS_NAME).is_dir():
        raise InputError(
            f"{path}: is no run of repscope: no {ENCODER_NAME}, no {CHECKPOINTS_NAME}",
            expected=f"the folder of a run, its {ENCODER_NAME}, or a checkpoint in it",
            fix="pass the folder that `repscope train` was given with -o",
        )
    return load_latest(path / CHECKPOINTS_NAME)


def weights_of(found: Checkpoint, run: Path) -> Mapping[str, Tensor]:
    """Return the weights of the encoder in a checkpoint.

    Args:
        found: the checkpoint.
        run: where it was found, for the error.

    Raises:
        InputError: where it holds none.
    """
    weights: Any = found.state.get("backbone")
    is_ours = (
        _COUNTED.issubset(found.state)
        and isinstance(weights, Mapping)
        and all(isinstance(one, Tensor) for one in weights.values())
    )
    if not is_ours:
        raise InputError(
            f"{run}: the checkpoint of step {found.step} is none of repscope",
            expected="one that `repscope train` wrote",
        )
    known: Mapping[str, Tensor] = weights
    return known


def training_facts(
    recipe: Recipe, surroundings: Surroundings, state: State
) -> dict[str, str]:
    """Return where an encoder comes from: nothing that a repetition would change.

    Args:
        recipe: with everything filled in that it left open.
        surroundings: the images it was trained on.
        state: of the learner, or of a checkpoint.
    """
    training = recipe.training
    plan = Plan(surroundings.n, training.batch_size, training.epochs, training.seed)
    step, loss = int(state["step"]), state["losses"].get("total")
    return {
        "training": "repscope train",
        "images": f"{surroundings.images}, {surroundings.n} of them",
        "images fingerprint": surroundings.fingerprint,
        "recipe fingerprint": recipe.fingerprint,
        "objective": recipe.objective.name,
        "loss": "none" if loss is None else f"{loss:.6g}",
        "epochs": f"{step / plan.steps_per_epoch:.4g} of {plan.epochs}",
        "steps": str(step),
        "steps skipped": str(state["nonfinite_total"]),
        "seed": str(training.seed),
        "first weights": state["origin"] or "drawn from the seed",
    }


def _run_of(checkpoint: Path, name: str = "") -> Path:
    """Return the folder of a checkpoint's run, or a file in it."""
    return checkpoint.resolve().parent.parent / name


def _restored(
    recipe: Recipe, weights: Mapping[str, Tensor], facts: dict[str, str], run: str
) -> Encoder:
    """Return the network of a recipe with its weights."""
    preprocess = preprocess_of(recipe)
    channels = _channels_of(weights, preprocess.channels)
    backbone = build(architecture_of(recipe.encoder, channels, recipe.data.size))
    try:
        backbone.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InputError(
            f"{run}: the checkpoint does not fit {RECIPE_NAME}",
            found="weights of another network",
            expected=str(backbone.architecture),
            fix="restore the recipe that the run was begun with",
        ) from error
    planes = channels - preprocess.channels
    return Encoder.of(
        backbone.eval(), preprocess, planes=max(planes, 0), provenance=facts
    )


def _channels_of(weights: Mapping[str, Any], usual: int) -> int:
    """Return what the first convolution takes: images may have brought planes."""
    kernels = (one for one in weights.values() if one.ndim == 4)
    first = next(kernels, None)
    return usual if first is None else int(first.shape[1])
