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


@app.callback(help=option.HELP, epilog=option.EPILOG)
def _repscope(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show it and exit."
        ),
    ] = False,
) -> None:
    """Hold what stands before the command."""


@app.command("demo", help=option.DEMO_HELP)
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


@app.command("diagnose", help=option.DIAGNOSE_HELP, epilog=option.EPILOG)
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


@app.command("embed", help=option.EMBED_HELP, epilog=option.EPILOG)
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


@app.command("train", help=option.TRAIN_HELP, epilog=option.EPILOG)
def train(
    recipe: option.RecipeFile = None,
    images: option.TrainingImages = None,
    part: option.Part = None,
    set_values: option.Set = None,
    resume: option.Resume = None,
    init_from: option.InitFrom = None,
    watch: option.Watch = None,
    watch_part: option.WatchPart = None,
    every: option.Every = None,
    labels: option.Labels = None,
    layers: option.Layers = None,
    limit: option.Limit = None,
    fail_on: option.FailOn = None,
    log: option.Log = None,
    compile: option.Compile = False,
    device: option.Device = "auto",
    out: option.Out = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
    dry_run: option.DryRun = False,
    debug: option.Debug = False,
) -> int:
    """Train an encoder."""
    from repscope._command_line import Output
    from repscope._training import Start, Watching, train_encoder

    settings = (*(set_values or ()), *(["training.compile=true"] * compile))
    start = Start(recipe, settings, images, part, resume, init_from)
    output = Output(out, overwrite, tuple(fail_on or ()), quiet=quiet)
    logs = tuple(log or ())
    watching = Watching(watch, watch_part, every, labels, layers, limit, logs)
    return train_encoder(start, watching, output, device=device, dry_run=dry_run)


@app.command("reproduce", help=option.REPRODUCE_HELP, epilog=option.EPILOG)
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


@app.command("compare", help=option.COMPARE_HELP, epilog=option.EPILOG)
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


@app.command("ls", help=option.LIST_HELP)
def ls(
    what: option.What = None,
    json: option.Json = False,
    debug: option.Debug = False,
) -> int:
    """List what repscope measures, checks and trains."""
    if what in ("objectives", "encoders", "heads"):
        from repscope._training_lists import list_trainable

        return list_trainable(what, as_json=json)
    if what == "experiments":
        from repscope._training import reproduce_experiment

        return reproduce_experiment("ls", None, False, json, quiet=False)
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
