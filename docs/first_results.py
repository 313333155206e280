"""Diagnose real pixels and print the tables of docs/first-results.md.

Run: REPSCOPE_DATA=FOLDER python docs/first_results.py [-o OUT]

FOLDER holds cifar100-test.parquet (Hugging Face layout: img {bytes, path}, fine_label,
coarse_label) and mnist/t10k-*-ubyte.gz (IDX). Pixels in [0, 1] are the features.
"""

import gzip
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import repscope as rs
from repscope._images import decode
from repscope.representations.store import read_columns

SHOWN = (
    "alpha",
    "rankme",
    "effective_rank",
    "effective_rank_covariance",
    "participation_ratio",
    "linear_accuracy",
    "ridge_accuracy",
    "knn_accuracy",
    "ncc_accuracy",
    "cdnv",
    "subclass_given_class",
    "class_collapse_index",
    "auroc",
    "auprc_error",
    "error_ratio_lowest",
    "argmax_concentration",
    "duplicate_rows",
    "dead_features",
)


def cifar100(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return (10,000, 32, 32, 3) pixels and the fine and coarse labels."""
    import pyarrow.parquet as parquet

    path = folder / "cifar100-test.parquet"
    encoded = parquet.read_table(path, columns=["img"])["img"].to_pylist()
    images = np.stack(
        [decode(one["bytes"], f"row {row}") for row, one in enumerate(encoded)]
    )
    columns = read_columns(path)
    return images, {
        "fine": columns["fine_label"],
        "coarse": columns["coarse_label"],
    }


def mnist(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return (10,000, 28, 28) pixels and the digits."""
    files = [folder / "mnist" / f"t10k-{name}-ubyte.gz" for name in _MNIST]
    pixels, labels = (gzip.decompress(path.read_bytes()) for path in files)
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)
    return images, {"digit": np.frombuffer(labels, np.uint8, offset=8).astype(int)}


_MNIST = ("images-idx3", "labels-idx1")


def main() -> None:
    """Diagnose both sets, save the reports and print their tables."""
    given = sys.argv[sys.argv.index("-o") + 1] if "-o" in sys.argv else None
    out = Path(given or tempfile.mkdtemp(prefix="first-results-"))
    folder = Path(os.environ["REPSCOPE_DATA"])
    for name, load in (("cifar100-test", cifar100), ("mnist-test", mnist)):
        images, labels = load(folder)
        features = images.reshape(len(images), -1).astype(np.float32) / 255
        report = rs.diagnose(features, labels=labels, images=images)
        report.save(out / name, overwrite=True)
        write = sys.stdout.write
        write(f"\n## {name}: {len(features):,} x {features.shape[1]:,} pixels\n\n")
        write(f"**{report.verdict.word}**: {report.verdict.sentence} ")
        write(f"({report.record.provenance.seconds:.0f} s)\n\n")
        write("| measurement | value | 95 % interval |\n|---|---|---|\n")
        for one in report.measurements:
            if one.name in SHOWN:
                low, high = one.interval or (None, None)
                span = "" if low is None else f"{low:.3g} to {high:.3g}"
                value = "-" if one.value is None else f"{one.value:.4g}"
                write(f"| {one.key} | {value} | {span} |\n")
        write("\n| check | status | what was seen |\n|---|---|---|\n")
        for finding in report.findings:
            write(f"| {finding.code} {finding.title} | {finding.status.value} | ")
            write(f"{finding.explanation} |\n")
    sys.stdout.write(f"\nreports: {out}\n")


if __name__ == "__main__":
    main()
