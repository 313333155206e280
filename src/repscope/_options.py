"""The options of the commands: each is declared once, for every command that has it."""

from pathlib import Path
from typing import Annotated

import typer

Features = Annotated[
    str,
    typer.Argument(metavar="FEATURES", help="The features; with IMAGES, the encoder."),
]
Runs = Annotated[
    list[Path], typer.Argument(metavar="OUT1 OUT2...", help="Result folders.")
]
What = Annotated[
    str | None,
    typer.Argument(metavar="[metrics|checks|protocols]", help="What to list."),
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
