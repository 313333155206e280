"""The verb demo: three versions of real digits, one sound and two damaged, diagnosed.

Pixels of scikit-learn's handwritten digits are features of a kind; a collapsed and a
drowned version of them show what the checks say. Every verdict comes from measurements.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from repscope._checking import UsageError
from repscope.diagnosis.compare import compare
from repscope.diagnosis.diagnose import diagnose
from repscope.report.report import Report
from repscope.representations.representation import Representation
from repscope.theory.planted import (
    Planted,
    dimensional_collapse,
    feature_suppression,
)

# Look-alike digits as one class each: 0 6, 1 7, 2 3, 4 9, 5 8.
PAIR_OF_DIGIT = (0, 1, 2, 2, 3, 4, 0, 1, 4, 3)
PAIR_NAMES = ("0 or 6", "1 or 7", "2 or 3", "4 or 9", "5 or 8")
COLLAPSED_RANK = 3
SHORTCUT_BITS = 4


def digits() -> tuple[Planted, Float[np.ndarray, "n 8 8"]]:
    """Return the pixels of 1,797 digits with their labels, and the images.

    Levels: "digit" (10 classes) and "pair" (5 classes of look-alike digits).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images / 16
    labels: Int[np.ndarray, " n"] = bunch.target.astype(np.int64)
    pairs = np.array(PAIR_OF_DIGIT)[labels]
    return Planted(
        images.reshape(len(images), -1), {"digit": labels, "pair": pairs}
    ), images


def demo_inputs(seed: int = 0) -> dict[str, Planted]:
    """Return the three versions: sound, collapsed and suppressed.

    Args:
        seed: of the planted shortcut and its noise.
    """
    pixels, _ = digits()
    return {
        "sound": pixels,
        "collapsed": dimensional_collapse(pixels, COLLAPSED_RANK, leak=0.01),
        "suppressed": feature_suppression(
            pixels, bits=SHORTCUT_BITS, strength=4.0, rest=0.3, noise=1.0, seed=seed
        ),
    }


def run_demo(
    out: str | Path, *, seed: int = 0, overwrite: bool = False
) -> tuple[Report, dict[str, Report]]:
    """Diagnose the three versions, save each report and the comparison.

    Args:
        out: folder to write: sound/, collapsed/, suppressed/ and comparison/.
        seed: of the damage, the split and the bootstraps.
        overwrite: replace the files of an earlier demo.

    Returns:
        The comparison, and the report of each version by name.

    Raises:
        UsageError: where the folder exists and is not to be overwritten.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(
            f"{folder}: exists and is not empty", fix="--overwrite, or another -o"
        )
    _, images = digits()
    versions = demo_inputs(seed)
    reports = {}
    for name, version in versions.items():
        labels = {
            "digit": version.labels["digit"],
            "pair": np.array(PAIR_NAMES)[version.labels["pair"]],
        }
        representation = Representation.of(
            version.features, labels=labels, attributes=version.attributes
        )
        report = diagnose(
            dataclasses.replace(representation, name=name),
            images=images,
            reference=None if name == "sound" else versions["sound"].features,
            seed=seed,
        )
        report.save(folder / name, overwrite=overwrite)
        reports[name] = report
    comparison = compare(*reports.values())
    comparison.save(folder / "comparison", overwrite=overwrite)
    return comparison, reports
