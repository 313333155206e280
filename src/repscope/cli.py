"""The command line: each verb declares its options here and calls one function.

Nothing of repscope that computes is imported before a command runs, so that ``--help``
stays fast; the imports inside the functions are the one exception to the rule that
own imports stand at the top.
"""

import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

import repscope
from repscope import _options as option
from repscope._checking import (
    EXIT_BUG,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TERMINATED,
    EXIT_USAGE,
    RepscopeError,
    UsageError,
    did_you_mean,
)

_HELP = """
\b
  repscope demo                                   see it work, offline
  repscope emb.npy                                features alone
  repscope emb.npy --labels y.npy                 with labels
  repscope emb.parquet --labels fine,coarse       columns, fine to coarse
  repscope emb.npy --labels y.npy --fail-on any   exit 1 on a failure: for CI
  repscope compare before-report after-report     which is better, and is it sure
  repscope diagnose timm/resnet18 photos          any encoder, on a folder of images
  repscope train --images photos -o run           train one, then diagnose run photos

A check-up for self-supervised image encoders: from features, and labels if you
have them, to what is wrong, how sure that is and what to do about it.
"""
_EPILOG = """
\b
Exit codes: 0 done, 1 a --fail-on gate failed, 2 wrong usage, 3 bad data,
4 the machine stands in the way (disk, memory, permission), 70 a bug in
repscope, 130 interrupted, 143 terminated.
"""
_DIAGNOSE_HELP = """Say what is wrong with a representation, from its features.

\b
  repscope diagnose emb.npy --labels y.npy -o out
  repscope diagnose emb.parquet --column emb --labels fine,coarse --split split
  repscope diagnose train.npz --test test.npz --labels y --attributes colour
  repscope diagnose emb.npy --fail-on "effective_rank<0.3*d" --fail-on RS102
  repscope diagnose run photos --part test --reference untrained

FEATURES is an npy, npz, Parquet, CSV, safetensors or pt file, or a folder of
shards: one row for each image. --labels, --attributes, --ids and --split take names
of columns in FEATURES, a FILE with one value per row, or FILE:NAME,NAME.

With IMAGES the first word is an encoder, which is run on them first; the features
are kept in OUT/features. A folder that "repscope embed" wrote needs no options: it
knows its labels, ids and pictures.
"""
_COMPARE_HELP = """Compare saved runs with the first of them, with intervals.

\b
  repscope compare before-report after-report
  repscope compare a-report b-report --fail-on "effective_rank<0.9*baseline"
"""
_DEMO_HELP = """Train three small encoders on real digits, and diagnose them.

\b
  repscope demo -o demo

One is sound, one is trained without what keeps features apart, and one is given an
easy way out. It takes a minute on two cores and no network.
"""
_EMBED_HELP = """Run an encoder over images; keep features, labels, small pictures.

\b
  repscope embed run photos -o features
  repscope embed timm/vit_small_patch14_dinov2 photos --layers blocks.5,blocks.11
  repscope embed weights.pth photos --architecture resnet50 --part test
  repscope diagnose features

The same command run again goes on where it was stopped. Weights are downloaded only
for a name such as timm/NAME, and not with --untrained.
"""
_TRAIN_HELP = """Train an encoder without labels, by a recipe.

\b
  repscope train --images photos -o run
  repscope train recipes/cifar100-simclr-small.toml --images c100.parquet
  repscope train recipe.toml --set training.epochs=3 --images photos -o run
  repscope train --resume run
  repscope diagnose run photos

--resume continues a stopped run as if it had never stopped. --init-from takes the
weights of an encoder and starts anew. --dry-run prints the recipe with every default.
"""
_REPRODUCE_HELP = """Reproduce a table or figure of the papers, and compare.

\b
  repscope reproduce ls
  repscope reproduce S1-3 -o s1-3
"""
_LIST_HELP = """List the metrics, the checks or the augmentation protocols.

\b
  repscope ls metrics
  repscope ls checks --json
  repscope ls protocols
"""

_MEMORY = """not enough memory: {}
  fix: close other programs, or pass fewer rows or fewer dimensions; a file of features
  is read in blocks, probing with --labels holds it whole"""
_NO_TORCH = """images need torch, which is not installed
  fix: pip install "repscope[train]\""""
_BUG = """this is a bug in repscope: {}: {}
  fix: run it again with --debug and report the traceback with what
  "repscope doctor" prints"""

app = typer.Typer(
    name="repscope",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# What the user typed, for the record; typer hands on values only.
_typed: ContextVar[tuple[str, ...]] = ContextVar("_typed", default=())


class _Terminated(BaseException):
    """SIGTERM came."""


def _show_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"repscope {repscope.__version__}")
        raise typer.Exit
    return asked


@app.callback(help=_HELP, epilog=_EPILOG)
def _repscope(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show it and exit."
        ),
    ] = False,
) -> None:
    """Hold what stands before the command."""


@app.command("demo", help=_DEMO_HELP)
def demo(
    out: option.Out = None,
    seed: option.Seed = 0,
    overwrite: option.Overwrite = False,
    json: option.Json = False,
    quiet: option.Quiet = False,
    verbose: option.Verbose = False,
    debug: option.Debug = False,
) -> int:
    """Run the main job on real digits."""
    from repscope._command_line import Output
    from repscope._running import demonstrate

    output = Output(out, overwrite, (), json, quiet, verbose, _typed.get())
    return demonstrate(output, seed=seed)


@app.command("diagnose", help=_DIAGNOSE_HELP, epilog=_EPILOG)
def diagnose(
    features: option.Features,
    image_source: option.ImagesToo = None,
    part: option.Part = None,
    limit: option.Limit = None,
    pool: option.Pool = None,
    architecture: option.ArchitectureName = None,
    untrained: option.Untrained = False,
    batch_size: option.BatchSize = 256,
    device: option.Device = "auto",
    allow_unreadable: option.AllowUnreadable = 0.01,
    column: option.Column = None,
    labels: option.Labels = None,
    attributes: option.Attributes = None,
    ids: option.Ids = None,
    images: option.Images = None,
    split: option.Split = None,
    test: option.Test = None,
    reference: option.Reference = None,
    out: option.Out = None,
    seed: option.Seed = 0,
    fail_on: option.FailOn = None,
    json: option.Json = False,
    quiet: option.Quiet = False,
    verbose: option.Verbose = False,
    dry_run: option.DryRun = False,
    overwrite: option.Overwrite = False,
    drop_nonfinite: option.DropNonfinite = False,
    debug: option.Debug = False,
) -> int:
    """Diagnose a features file, or an encoder on images."""
    from repscope._command_line import Output, diagnose_features
    from repscope._inputs import EncoderChoice, ImageChoice, Inputs, Sources

    sources = Sources(features, column, images, test, reference)
    inputs = Inputs(sources, labels, attributes, ids, split, seed, drop_nonfinite)
    output = Output(out, overwrite, fail_on or (), json, quiet, verbose, _typed.get())
    if image_source is None:
        return diagnose_features(inputs, output, dry_run=dry_run)
    from repscope._running import diagnose_images

    choice = ImageChoice(image_source, part, limit, labels)
    how = (architecture, untrained, column, pool, batch_size, device, seed)
    running = EncoderChoice(*how, allow_unreadable)
    return diagnose_images(inputs, choice, running, output)


@app.command("embed", help=_EMBED_HELP, epilog=_EPILOG)
def embed(
    encoder: option.Encoder,
    images: option.ImageSource,
    labels: option.Labels = None,
    part: option.Part = None,
    limit: option.Limit = None,
    layers: option.Layers = None,
    pool: option.Pool = None,
    architecture: option.ArchitectureName = None,
    untrained: option.Untrained = False,
    batch_size: option.BatchSize = 256,
    device: option.Device = "auto",
    allow_unreadable: option.AllowUnreadable = 0.01,
    seed: option.Seed = 0,
    out: option.Out = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
    debug: option.Debug = False,
) -> int:
    """Run an encoder over images."""
    from repscope._inputs import EncoderChoice, ImageChoice
    from repscope._running import embed_images

    choice = ImageChoice(images, part, limit, labels)
    how = (architecture, untrained, layers, pool, batch_size, device, seed)
    running = EncoderChoice(*how, allow_unreadable)
    return embed_images(encoder, choice, running, out, overwrite, quiet)


@app.command("train", help=_TRAIN_HELP, epilog=_EPILOG)
def train(
    recipe: option.RecipeFile = None,
    images: option.TrainingImages = None,
    part: option.Part = None,
    set_values: option.Set = None,
    resume: option.Resume = None,
    init_from: option.InitFrom = None,
    device: option.Device = "auto",
    out: option.Out = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
    dry_run: option.DryRun = False,
    debug: option.Debug = False,
) -> int:
    """Train an encoder."""
    from repscope._training import Start, train_encoder

    settings = tuple(set_values or ())
    start = Start(recipe, settings, images, part, resume, init_from)
    return train_encoder(start, device, out, overwrite, quiet, dry_run)


@app.command("reproduce", help=_REPRODUCE_HELP, epilog=_EPILOG)
def reproduce(
    experiment: option.Experiment,
    out: option.Out = None,
    overwrite: option.Overwrite = False,
    json: option.Json = False,
    quiet: option.Quiet = False,
    debug: option.Debug = False,
) -> int:
    """Reproduce a table or figure."""
    from repscope._training import reproduce_experiment

    return reproduce_experiment(experiment, out, overwrite, json, quiet)


@app.command("compare", help=_COMPARE_HELP, epilog=_EPILOG)
def compare(
    runs: option.Runs,
    out: option.Out = None,
    fail_on: option.FailOn = None,
    json: option.Json = False,
    quiet: option.Quiet = False,
    verbose: option.Verbose = False,
    overwrite: option.Overwrite = False,
    debug: option.Debug = False,
) -> int:
    """Compare saved runs."""
    from repscope._command_line import Output, compare_runs

    output = Output(out, overwrite, fail_on or (), json, quiet, verbose, _typed.get())
    return compare_runs(runs, output)


@app.command("ls", help=_LIST_HELP)
def ls(
    what: option.What = None,
    json: option.Json = False,
    debug: option.Debug = False,
) -> int:
    """List what repscope measures and checks."""
    from repscope._command_line import list_catalogue

    return list_catalogue(what, as_json=json)


@app.command("doctor")
def doctor(json: option.Json = False, debug: option.Debug = False) -> int:
    """Report versions, cores, BLAS, extras and disk, to paste into an issue."""
    from repscope import _environment, _terminal

    report = _environment.report(Path.cwd())
    _terminal.show_entries(report, as_json=json)
    return EXIT_ENVIRONMENT if report["missing"] else EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after ``repscope``; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Before torch is loaded: threads that spin while they wait slow a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _escape_what_the_locale_lacks()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(words)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, _Terminated) as error:  # noqa: BLE001
        # The one place where everything is caught: an exit code is a contract.
        if "--debug" in words:
            traceback.print_exc()
        code = _explain(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _run(words: list[str]) -> int:
    _typed.set(tuple(words))
    command = typer.main.get_command(app)
    try:
        with command.make_context("repscope", _with_verb(words)) as context:
            return command.invoke(context) or EXIT_OK
    except typer.Exit as done:
        return done.exit_code


def _with_verb(words: list[str]) -> list[str]:
    """Return the words with the verb that ``repscope FEATURES`` leaves out."""
    if not words:
        return ["--help"]
    first, verbs = words[0], [str(verb.name) for verb in app.registered_commands]
    if first in verbs or first.startswith("-"):
        return words
    if Path(first).exists() or Path(first).suffix or "/" in first:
        return ["diagnose", *words]
    raise UsageError(f"there is no command {first!r}", fix=did_you_mean(first, verbs))


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise _Terminated


def _escape_what_the_locale_lacks() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _explain(error: BaseException) -> int:
    """Say what happened on standard error and return its exit code."""
    from repscope import _terminal

    if isinstance(error, BrokenPipeError):  # the reader, such as head, has enough
        _terminal.silence(sys.stdout.fileno())
        return EXIT_OK
    message, code = _message_and_code(error)
    _terminal.note(_terminal.printable(f"error: {message}"))
    return code


def _message_and_code(error: BaseException) -> tuple[str, int]:
    if isinstance(error, RepscopeError):
        return str(error), error.exit_code
    if isinstance(error, typer.BadParameter.__bases__[0]):  # of typer's usage errors
        return _usage_message(error), EXIT_USAGE
    again = next(iter(getattr(error, "__notes__", ())), "run the same command again")
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted\n  fix: {again}", EXIT_INTERRUPTED
    if isinstance(error, _Terminated):
        return f"terminated\n  fix: {again}", EXIT_TERMINATED
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return _NO_TORCH, EXIT_USAGE
    if isinstance(error, MemoryError):
        return _MEMORY.format(str(error) or "no more to be had"), EXIT_ENVIRONMENT
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{place}", EXIT_ENVIRONMENT
    return _BUG.format(type(error).__name__, error), EXIT_BUG


def _usage_message(error: BaseException) -> str:
    """Return what typer says of a wrong word, with the closest right one."""
    context, wrong = getattr(error, "ctx", None), getattr(error, "option_name", None)
    said = str(getattr(error, "message", "")) if wrong else _sentence_of(error)
    if context is None:
        return said
    options = [option for p in context.command.params for option in p.opts]
    help_line = f"{context.command_path} --help lists the options"
    hint = did_you_mean(wrong, options) if wrong and wrong not in options else ""
    return f"{said}\n  fix: {hint or help_line}"


def _sentence_of(error: BaseException) -> str:
    """Return the message with its parameter named, in one line."""
    said = getattr(error, "format_message", error.__str__)()
    return " ".join(str(said).split())
