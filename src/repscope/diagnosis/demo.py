"""The verb demo: three small encoders of real digits, one sound and two damaged.

All three are trained here, on the same images with the same network. One loses what
keeps its features apart; one is shown an easy code beside each digit. What is said of
them comes from measurements alone.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from repscope._checking import UsageError
from repscope.data.digits import N_TRAIN, digits16
from repscope.data.imageset import ImageSet
from repscope.data.shortcuts import randbit
from repscope.diagnosis.compare import compare
from repscope.diagnosis.diagnose import diagnose
from repscope.models.encoder import Encoder
from repscope.report.report import Report
from repscope.representations.embed import embed
from repscope.representations.embedding import Embedding
from repscope.training.engine import train
from repscope.training.progress import Progress
from repscope.training.recipe import Recipe, override

# Enough for a sound encoder of digits; the damage shows long before.
SOUND = Recipe.from_dict(
    {
        "augmentation": {"protocol": "digits16", "crop_minimum": 0.5},
        "encoder": {"name": "res_lh", "depth": 2, "width": 64},
        "head": {"name": "simclr", "hidden": 64, "out": 64},
        "objective": {"name": "nt_xent", "options": {"temperature": 0.1}},
        "optimiser": {"name": "adam", "learning_rate": 2e-3},
        "training": {"epochs": 15, "batch_size": 256},
    }
)
# Nothing asks features to differ from one another: they agree on a few dimensions.
WITHOUT_DECORRELATION = (
    "objective.name=vicreg",
    "objective.options.temperature=none",
    "objective.options.covariance_weight=0.0",
    "head.name=linear",
    "head.hidden=none",
)
# A code of eight bits tells 256 images apart at once; the digit is not needed for it.
WITH_SHORTCUT = ("data.bits=8",)
DAMAGE: Mapping[str, tuple[str, ...]] = {
    "healthy": (),
    "collapsed": WITHOUT_DECORRELATION,
    "suppressed": WITH_SHORTCUT,
}
ENCODERS = "encoders"

_log = logging.getLogger("repscope")


def demo_recipes(seed: int = 0) -> dict[str, Recipe]:
    """Return the recipes by name: healthy, collapsed and suppressed.

    Args:
        seed: of weights, order, augmentation and the shortcut's bits.
    """
    seeds = (f"training.seed={seed}", f"data.bit_seed={seed}")
    return {name: override(SOUND, (*words, *seeds)) for name, words in DAMAGE.items()}


def demo_reports(
    seed: int = 0,
    *,
    runs: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Report]:
    """Train the three encoders on 1,297 digits and diagnose all 1,797, unsaved.

    The reference of all three is the network before training, on the digits alone: what
    an encoder that learnt nothing holds of them.

    Args:
        seed: of the training, the shortcut and the bootstraps.
        runs: folder of the runs, one each; None keeps none.
        overwrite: replace earlier runs.
        progress: is told of each training.
    """
    images = digits16()
    reference: Embedding | None = None
    reports: dict[str, Report] = {}
    for name, recipe in demo_recipes(seed).items():
        _log.info("training the %s encoder", name)
        encoder = train(
            recipe,
            digits16("train"),
            None if runs is None else runs / name,
            overwrite=overwrite,
            device="cpu",
            progress=progress,
        )
        if reference is None:
            reference = embed(encoder.untrained(seed), images, device="cpu")
        reports[name] = _diagnosed(
            name, encoder, _as_seen(images, recipe), reference, seed
        )
    return reports


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Report, dict[str, Report]]:
    """Train and diagnose the three encoders, save each report and the comparison.

    Args:
        out: folder to write: healthy/, collapsed/, suppressed/ and comparison/, and the
            runs in encoders/.
        seed: of the training, the shortcut, the split and the bootstraps.
        overwrite: replace the files of an earlier demo.
        progress: is told of each training.

    Returns:
        The comparison, and the report of each encoder by name.

    Raises:
        UsageError: where the folder exists and is not to be overwritten.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(
            f"{folder}: exists and is not empty", fix="--overwrite, or another -o"
        )
    reports = demo_reports(
        seed, runs=folder / ENCODERS, overwrite=overwrite, progress=progress
    )
    for name, report in reports.items():
        report.save(folder / name, overwrite=overwrite)
    comparison = compare(*reports.values())
    comparison.save(folder / "comparison", overwrite=overwrite)
    return comparison, reports


def _as_seen(images: ImageSet, recipe: Recipe) -> ImageSet:
    """Return the images as the encoder of a recipe sees them."""
    bits = recipe.data.bits
    return randbit(images, bits, seed=recipe.data.bit_seed) if bits else images


def _diagnosed(
    name: str, encoder: Encoder, images: ImageSet, reference: Embedding, seed: int
) -> Report:
    embedding = embed(encoder, images, device="cpu")
    representation = dataclasses.replace(
        embedding.representation,
        name=name,
        is_test=np.arange(images.n) >= N_TRAIN,
    )
    return diagnose(
        representation,
        images=embedding.thumbnails,
        reference=reference.representation,
        seed=seed,
    )
