"""Encoders run over images: `embed`, `diagnose` with images, and `demo`."""

import dataclasses
import logging
import shlex
from pathlib import Path
from typing import cast, get_args

from repscope import _progress, _terminal
from repscope._checking import EXIT_OK, check_choice
from repscope._command_line import (
    FEATURES,
    REFERENCE,
    Output,
    check_folder,
    check_not_inside,
    diagnose_features,
    parsed_gates,
    show_run,
)
from repscope._inputs import EncoderChoice, ImageChoice, Inputs
from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.diagnosis.demo import SOUND, run_demo
from repscope.models.encoder import Encoder
from repscope.models.layer_outputs import Pool
from repscope.models.third_party import open_encoder
from repscope.representations.embed import embed
from repscope.representations.embedding import Embedding
from repscope.training.saved_run import encoder_of_run, is_unfinished_run

# What --reference says to mean the same encoder before training.
UNTRAINED = "untrained"
# What must be known of an encoder that others made: which tensors were found, and
# what pictures it is taken to expect.
TOLD_FACTS = ("keys", "preprocess")

_log = logging.getLogger("repscope")


def embed_images(
    encoder: str,
    images: ImageChoice,
    how: EncoderChoice,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Run an encoder over images and say what to do with the features.

    Args:
        encoder: as typed.
        images: as typed.
        how: as typed.
        out: the features folder; named after the encoder by default.
        overwrite: replace features of something else.
        quiet: say nothing.

    Returns:
        The exit code 0.

    Raises:
        UsageError: for an unknown encoder, layer or pooling, or a folder in use.
        InputError: for images or weights that cannot be used.
    """
    folder = out or Path(f"{stem(encoder)}-features")
    check_not_inside(folder, images.source)
    with _terminal.progress(quiet=quiet):
        opened = opened_encoder(encoder, how)
        chosen = chosen_images(images)
        made = embedded(opened, chosen, how, folder, overwrite=overwrite, quiet=quiet)
    if not quiet:
        widths = ", ".join(f"{name} ({made[name].d:,})" for name in made.layers)
        _terminal.show(f"{made.n:,} images, {widths}")
        folder_word = shlex.quote(str(folder))
        _terminal.note(f"features: {folder}\nnext: repscope diagnose {folder_word}")
    return EXIT_OK


def diagnose_images(
    inputs: Inputs, images: ImageChoice, how: EncoderChoice, output: Output
) -> int:
    """Run an encoder over images, then diagnose the features.

    Args:
        inputs: `sources.features` is the encoder; `sources.reference` may be
            "untrained".
        images: as typed.
        how: as typed.
        output: where to write and what to say; features lie in it.

    Returns:
        The exit code: 0, or 1 where a gate failed.

    Raises:
        UsageError: for an unknown encoder, layer or pooling, or a folder in use.
        InputError: for images or weights that cannot be used.
    """
    parsed_gates(output.fail_on)  # a wrong one is refused before the work
    out = output.out or Path(f"{stem(inputs.sources.features)}-report")
    check_not_inside(out, images.source)
    check_folder(out, overwrite=output.overwrite)
    sources = dataclasses.replace(inputs.sources, features=str(out / FEATURES))
    with _terminal.progress(quiet=output.quiet):
        encoder = opened_encoder(inputs.sources.features, how)
        chosen = chosen_images(images)
        said = {"overwrite": output.overwrite, "quiet": output.quiet}
        made = embedded(encoder, chosen, how, out / FEATURES, **said)
        if sources.reference == UNTRAINED:
            _log.info("embedding with the same encoder untrained, as the reference")
            alike = dataclasses.replace(how, layers=made.default_layer)
            other = encoder.untrained(how.seed)
            embedded(other, chosen, alike, out / REFERENCE, **said)
            sources = dataclasses.replace(sources, reference=str(out / REFERENCE))
    sources = dataclasses.replace(sources, column=made.default_layer)
    same = shlex.join([inputs.sources.features, images.source])
    again = {"FEATURES": same, " --labels LABELS": "", "REFERENCE": UNTRAINED}
    return diagnose_features(
        dataclasses.replace(inputs, sources=sources, labels=None),
        dataclasses.replace(output, out=out, overwrite=True),
        again=again,
    )


def demonstrate(output: Output, *, seed: int) -> int:
    """Train three encoders of real digits, diagnose and compare them.

    Args:
        output: where to write and what to say.
        seed: of everything random in it.

    Returns:
        The exit code 0.

    Raises:
        UsageError: for an output folder in use.
    """
    out = output.out or Path("repscope-demo")
    check_folder(out, overwrite=output.overwrite)
    quiet, overwrite = output.quiet, output.overwrite
    with (
        _terminal.progress(quiet=quiet),
        _progress.counted("training", "images", quiet=quiet) as counter,
    ):
        shown = _progress.TrainingProgress(counter, SOUND.training.batch_size)
        comparison, _ = run_demo(out, seed=seed, overwrite=overwrite, progress=shown)
    show_run(comparison.record, out / "comparison", output)
    return EXIT_OK


def opened_encoder(text: str, how: EncoderChoice) -> Encoder:
    """Return the encoder that the words name.

    Raises:
        UsageError: for an unknown name.
        InputError: for weights that cannot be used.
    """
    if is_unfinished_run(text):
        stopped = encoder_of_run(text)
        return stopped.untrained(how.seed) if how.untrained else stopped
    encoder = open_encoder(
        text,
        weights=not how.untrained,
        architecture=how.architecture,
        seed=how.seed,
    )
    for fact in TOLD_FACTS:
        if fact in encoder.facts:
            _log.info("%s: %s", fact, encoder.facts[fact])
    return encoder


def chosen_images(choice: ImageChoice) -> ImageSet:
    """Return the images that the words name.

    Raises:
        InputError: where there are none.
        UsageError: for an unknown part or level.
    """
    levels = None
    if choice.labels is not None:
        levels = [name.strip() for name in choice.labels.split(",")]
    images = open_images(choice.source, split=choice.part, labels=levels)
    if choice.limit is not None and choice.limit < images.n:
        images = images.balanced(choice.limit)
    return images


def embedded(
    encoder: Encoder,
    images: ImageSet,
    how: EncoderChoice,
    folder: Path,
    *,
    overwrite: bool,
    quiet: bool,
) -> Embedding:
    """Return the embedding of images, written to a folder or found there."""
    layers: str | list[str] | None = how.layers
    if how.layers is not None and how.layers != "all":
        layers = [name.strip() for name in how.layers.split(",")]
    if how.pool is not None:
        check_choice("pool", how.pool, get_args(Pool))
    with _progress.counted("embedding", "images", quiet=quiet) as progress:
        return embed(
            encoder,
            images,
            layers=layers,
            pool=cast(Pool | None, how.pool),
            batch_size=how.batch_size,
            device=how.device,
            allowed_failures=how.allowed_failures,
            out=folder,
            overwrite=overwrite,
            progress=progress,
        )


def stem(text: str) -> str:
    """Return a name for results of an encoder or a file."""
    return Path(text).resolve().stem if Path(text).exists() else text.replace("/", "-")
