"""The command line: each verb declares its options here and calls one function.

Nothing of repscope that computes is imported before a command runs, so that ``--help``
stays fast; the imports inside the functions are the one exception to the rule that
own imports stand at the top.
"""

import io
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

FEATURES is an npy, npz, Parquet, CSV, safetensors or pt file, or a folder of
shards: one row for each image. --labels, --attributes, --ids and --split take names
of columns in FEATURES, a FILE with one value per row, or FILE:NAME,NAME.
"""
_COMPARE_HELP = """Compare saved runs with the first of them, with intervals.

\b
  repscope compare before-report after-report
  repscope compare a-report b-report --fail-on "effective_rank<0.9*baseline"
"""
_DEMO_HELP = """Diagnose real handwritten digits: sound, collapsed and drowned.

\b
  repscope demo -o demo
"""
_LIST_HELP = """List the metrics with their formulas, or the checks with their codes.

\b
  repscope ls metrics
  repscope ls checks --json
"""

_MEMORY = """not enough memory: {}
  fix: close other programs, or pass fewer rows or fewer dimensions; a file of features
  is read in blocks, probing with --labels holds it whole"""
_BUG = """this is a bug in repscope: {}: {}
  fix: run it again with --debug and report the traceback with what
  "repscope doctor" prints"""

app = typer.Typer(
    name="repscope",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Features = Annotated[str, typer.Argument(metavar="FEATURES", help="The features.")]
Runs = Annotated[
    list[Path], typer.Argument(metavar="OUT1 OUT2...", help="Result folders.")
]
What = Annotated[str, typer.Argument(metavar="metrics|checks", help="What to list.")]
Column = Annotated[
    str | None, typer.Option(metavar="NAME", help="The vector column, where several.")
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="NAMES|FILE", help="Label levels, fine to coarse."),
]
Attributes = Annotated[
    str | None,
    typer.Option(metavar="NAMES|FILE", help="Factors that may compete with labels."),
]
Ids = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="A name for each row; compare joins on it."),
]
Images = Annotated[
    str | None,
    typer.Option(metavar="DIR|COLUMN", help="The images, shown as thumbnails."),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="train or test for each row (val counts as test; True and 1 are test, "
        "in a column called is_train they are train).",
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Test features, with the same columns. A label FILE holds the labels of "
        "FEATURES, then those of the test features.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Features of the same images from another encoder, a random one, or "
        "their pixels.",
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
DropNonfinite = Annotated[
    bool,
    typer.Option("--drop-nonfinite", help="Drop rows with NaN or infinity; say so."),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="OUT", help="The result folder."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the report in the result folder.")
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="EXPR",
        help="Exit 1 on: a finding (RS102, RS1xx, any; RS102? on undecided too) or a "
        "comparison (effective_rank<20, <0.3*d, and in compare <0.9*baseline).",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print results.json instead of the summary.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the verdict alone.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Print every measurement and finding.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Read headers and labels, say what would be done."),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback with an error.")
]


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
    out: Out = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> int:
    """Run the main job on scikit-learn's digits."""
    from repscope._command_line import Output, demonstrate

    output = Output(out, overwrite, (), json, quiet, verbose, _typed.get())
    return demonstrate(output, seed=seed)


@app.command("diagnose", help=_DIAGNOSE_HELP, epilog=_EPILOG)
def diagnose(
    features: Features,
    column: Column = None,
    labels: Labels = None,
    attributes: Attributes = None,
    ids: Ids = None,
    images: Images = None,
    split: Split = None,
    test: Test = None,
    reference: Reference = None,
    out: Out = None,
    seed: Seed = 0,
    fail_on: FailOn = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    drop_nonfinite: DropNonfinite = False,
    debug: Debug = False,
) -> int:
    """Diagnose a features file."""
    from repscope._command_line import Output, diagnose_features
    from repscope._inputs import Inputs, Sources

    sources = Sources(features, column, images, test, reference)
    inputs = Inputs(sources, labels, attributes, ids, split, seed, drop_nonfinite)
    gates = tuple(fail_on or ())
    output = Output(out, overwrite, gates, json, quiet, verbose, _typed.get())
    return diagnose_features(inputs, output, dry_run=dry_run)


@app.command("compare", help=_COMPARE_HELP, epilog=_EPILOG)
def compare(
    runs: Runs,
    out: Out = None,
    fail_on: FailOn = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> int:
    """Compare saved runs."""
    from repscope._command_line import Output, compare_runs

    gates = tuple(fail_on or ())
    output = Output(out, overwrite, gates, json, quiet, verbose, _typed.get())
    return compare_runs(runs, output)


@app.command("ls", help=_LIST_HELP)
def ls(what: What, json: Json = False, debug: Debug = False) -> int:
    """List what repscope measures and checks."""
    from repscope._command_line import list_catalogue

    return list_catalogue(what, as_json=json)


@app.command("doctor")
def doctor(json: Json = False, debug: Debug = False) -> int:
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
    if isinstance(error, KeyboardInterrupt):
        return "interrupted\n  fix: run the same command again", EXIT_INTERRUPTED
    if isinstance(error, _Terminated):
        return "terminated\n  fix: run the same command again", EXIT_TERMINATED
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
