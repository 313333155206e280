"""What the commands say of themselves, and their options, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

HELP = """
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
EPILOG = """
\b
Exit codes: 0 done, 1 a --fail-on gate failed, 2 wrong usage, 3 bad data,
4 the machine stands in the way (disk, memory, permission), 70 a bug in
repscope, 130 interrupted, 143 terminated.
"""
DIAGNOSE_HELP = """Say what is wrong with a representation, from its features.

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
COMPARE_HELP = """Compare saved runs with the first of them, with intervals.

\b
  repscope compare before-report after-report
  repscope compare a-report b-report --fail-on "effective_rank<0.9*baseline"
"""
DEMO_HELP = """Train three small encoders on real digits, and diagnose them.

\b
  repscope demo -o demo

One is sound, one is trained without what keeps features apart, and one is given an
easy way out. It takes a minute on two cores and no network.
"""
EMBED_HELP = """Run an encoder over images; keep features, labels, small pictures.

\b
  repscope embed run photos -o features
  repscope embed timm/vit_small_patch14_dinov2 photos --layers blocks.5,blocks.11
  repscope embed weights.pth photos --architecture resnet50 --part test
  repscope diagnose features

The same command run again goes on where it was stopped. Weights are downloaded only
for a name such as timm/NAME, and not with --untrained.
"""
TRAIN_HELP = """Train an encoder without labels, by a recipe.

\b
  repscope train --images photos -o run
  repscope train recipes/cifar100-simclr-small.toml --images c100.parquet
  repscope train recipe.toml --set training.epochs=3 --images photos -o run
  repscope train --resume run
  repscope train recipe.toml --images photos --watch more --every 200 --fail-on RS102
  repscope diagnose run photos

--resume continues a stopped run as if it had never stopped. --init-from takes the
weights of an encoder and starts anew. --dry-run prints the recipe with every default.

--watch embeds images every N steps, writes what it measures to RUN/watch.jsonl and
warns of a collapse. --watch-part, --labels, --layers and --limit say which, and of
what; --fail-on ends the training, with exit code 1.
"""
REPRODUCE_HELP = """Reproduce a table or figure of the papers, and compare.

\b
  repscope reproduce ls
  repscope reproduce S1-3 -o s1-3
"""
LIST_HELP = """List what is measured and judged, and what a recipe can name.

\b
  repscope ls metrics
  repscope ls checks --json
  repscope ls objectives
  repscope ls protocols | encoders | heads | experiments
"""

Features = Annotated[
    str,
    typer.Argument(metavar="FEATURES", help="The features; with IMAGES, the encoder."),
]
Runs = Annotated[
    list[Path], typer.Argument(metavar="OUT1 OUT2...", help="Result folders.")
]
What = Annotated[
    str | None,
    typer.Argument(metavar="[metrics|checks|objectives|...]", help="What to list."),
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column",
        "--layer",
        metavar="NAME",
        help="The vector column or the layer, where there are several.",
    ),
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
        metavar="FILE|untrained",
        help="Features of the same images from another encoder or their pixels; with "
        "IMAGES also: untrained, the same encoder before training.",
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
    bool, typer.Option("--overwrite", help="Replace what an earlier run left there.")
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
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say as little as can be.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Print every measurement and finding.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, and write nothing."),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback with an error.")
]

Encoder = Annotated[
    str,
    typer.Argument(
        metavar="ENCODER",
        help="A training run, a checkpoint, or timm/NAME, torchvision/NAME, "
        "hf/ORG/NAME.",
    ),
]
ImageSource = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="A folder or zip of images, Parquet, IDX, npz, CIFAR binaries, digits or "
        "shapes20.",
    ),
]
ImagesToo = Annotated[
    str | None,
    typer.Argument(
        metavar="[IMAGES]", help="Given, the first word is the encoder to run on them."
    ),
]
TrainingImages = Annotated[
    str | None,
    typer.Option("--images", metavar="IMAGES", help="What to train on."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Argument(metavar="[RECIPE.toml]", help="The recipe; defaults without."),
]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Compile the networks first: for long runs."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Such as training.epochs=3."),
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Continue a run exactly; it holds its recipe."),
]
InitFrom = Annotated[
    str | None,
    typer.Option(metavar="ENCODER", help="Start from these weights, nothing else."),
]
Watch = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGES", help="Look at the encoder on these while it is trained."
    ),
]
WatchPart = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which part of the watched images.")
]
Every = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Steps between two looks; 500 by default."),
]
Log = Annotated[
    list[str] | None,
    typer.Option(metavar="tensorboard|wandb", help="Log losses and looks there too."),
]
Part = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which part of the images: train, val, test."),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="About N images, as many of each class."),
]
Layers = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Layers, comma-separated; the last by default."),
]
Pool = Annotated[
    str | None,
    typer.Option(
        metavar="gap|cls|mean|flatten", help="How a layer becomes one vector."
    ),
]
ArchitectureName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of a raw state dict: resnet18, timm/NAME, ..."),
]
Untrained = Annotated[
    bool,
    typer.Option(
        "--untrained", help="The same architecture, initialised at random: a reference."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Images at once.")]
AllowUnreadable = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="Images that may be unreadable; they get no row."
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, ...")]
Experiment = Annotated[
    str, typer.Argument(metavar="ls|ID", help="List the experiments, or run one.")
]
