"""No check that counts fires on real features that are sound.

Pixels, random projections, rectified and whitened ones, layers of trained and of
untrained networks: none is collapsed, empty or drowned, however steep its spectrum or
hard its labels.
"""

import functools

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from data_files import cifar, mnist, shrunk
from diagnosis.cases import ABSENT, FOUND, UNDECIDED, finding_of
from repscope.data.digits import PAIR_OF_DIGIT
from repscope.diagnosis.diagnose import diagnose

N = 1000
PIXELS = load_digits().data / 16
DIGIT = load_digits().target
LABELS = {"digit": DIGIT[:N], "pair": np.array(PAIR_OF_DIGIT)[DIGIT[:N]]}


def faults(report):
    """Return the findings that count, in words."""
    return [
        f"{one.code}: {one.explanation}"
        for one in report.findings
        if one.status is FOUND and one.severity != "advisory"
    ]


def projected(features, width, *, seed=0):
    """Return a random projection that keeps the scale."""
    d = features.shape[1]
    generator = np.random.default_rng(seed)
    return features @ (generator.standard_normal((d, width)) / np.sqrt(d))


def rectified(features):
    return np.maximum(features, 0)


def centred(features):
    return features - features.mean(axis=0)


def whitened(features, width):
    """Return the first principal components, each of variance 1."""
    left = np.linalg.svd(centred(features), full_matrices=False)[0]
    return left[:, :width] * np.sqrt(len(features))


def untrained(features, depth, width=128):
    """Return the output of random rectified layers (He's initialisation)."""
    for layer in range(depth):
        features = np.sqrt(2) * rectified(projected(features, width, seed=layer))
    return features


X = PIXELS[:N]
DIGITS = {
    "pixels": X,
    "projected to 16": projected(X, 16),
    "rectified, 128": rectified(projected(X, 128)),
    "rectified, 256": rectified(projected(X, 256)),
    "rectified about the mean": rectified(projected(centred(X), 64)),
    "whitened, 32": whitened(X, 32),
    "whitened, all": whitened(X, 61),
    "projected and offset": projected(X, 64) + 3,
    "untrained, 3 layers": untrained(X, 3),
}


@pytest.mark.parametrize("control", DIGITS)
def test_digits(control):
    report = diagnose(DIGITS[control], labels=LABELS)
    assert faults(report) == []
    assert report.verdict.word == "HEALTHY"


@pytest.mark.parametrize("control", DIGITS)
def test_digits_without_labels(control):
    assert faults(diagnose(DIGITS[control])) == []


@pytest.mark.parametrize("control", ["projected to 16", "rectified, 128"])
def test_digits_against_pixels(control):
    report = diagnose(DIGITS[control], labels=LABELS["digit"], reference=X)
    assert faults(report) == []
    assert finding_of(report, "RS202").status is ABSENT


def test_whitened_digits_are_flat_and_undecided_without_labels():
    finding = finding_of(diagnose(DIGITS["whitened, 32"]), "RS103")
    assert finding.status is UNDECIDED


@functools.cache
def trained():
    """Return the hidden layers of a network trained on the digits' pixels."""
    network = MLPClassifier((64, 32), random_state=0, max_iter=25, alpha=1e-3)
    with pytest.warns(ConvergenceWarning):
        network.fit(X, LABELS["digit"])
    assert network.score(X, LABELS["digit"]) > 0.95
    layers, features = [], X
    for weights, bias in zip(network.coefs_, network.intercepts_, strict=True):
        features = rectified(features @ weights + bias)
        layers.append(features)
    return layers[:-1]


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_of_a_trained_network(layer):
    report = diagnose(trained()[layer], labels=LABELS, reference=X)
    assert faults(report) == []
    assert report.verdict.word == "HEALTHY"


@pytest.mark.parametrize(("control", "seed"), [("pixels", 0), ("whitened, 32", 1)])
def test_random_labels_are_neither_collapse_nor_suppression(control, seed):
    generator = np.random.default_rng(seed)
    digit = LABELS["digit"]
    subclass = 2 * digit + generator.integers(0, 2, len(digit))
    report = diagnose(
        DIGITS[control],
        labels={"subclass": subclass, "digit": digit},
        attributes={"look-alike": LABELS["pair"]},
    )
    assert finding_of(report, "RS201").status is UNDECIDED
    assert finding_of(report, "RS202").status is not FOUND
    random = diagnose(
        DIGITS[control],
        labels=generator.integers(0, 10, len(digit)),
        attributes=LABELS,
    )
    assert finding_of(random, "RS202").status is UNDECIDED


def test_mnist_pixels():
    images, labels = mnist(N)
    report = diagnose(shrunk(images, 2), labels=labels)
    assert faults(report) == []
    assert report.verdict.word == "HEALTHY"


@functools.cache
def cifar10():
    """Return 8 x 8 colour pixels and labels."""
    images, labels = cifar("cifar10-test", N)
    return shrunk(images, 4), labels["label"]


CIFAR = {
    "pixels": lambda pixels: pixels,
    "rectified, 64": lambda pixels: rectified(projected(pixels, 64)),
    "untrained, 2 layers": lambda pixels: untrained(pixels, 2),
    "whitened": lambda pixels: whitened(pixels, 64),
}


@pytest.mark.parametrize("control", CIFAR)
def test_cifar_10(control):
    pixels, labels = cifar10()
    report = diagnose(CIFAR[control](pixels), labels=labels)
    assert faults(report) == []
    assert report.verdict.word == "HEALTHY"


def test_cifar_100_whitened_is_not_empty_though_its_labels_are_hard():
    images, labels = cifar("cifar100-test", 2000)
    features = whitened(shrunk(images, 4), 96)
    report = diagnose(features, labels=labels["coarse_label"])
    assert faults(report) == []
    assert finding_of(report, "RS103").status is UNDECIDED


@pytest.mark.slow
def test_cifar_100_with_both_levels():
    images, labels = cifar("cifar100-test", 10_000)
    levels = {"fine": labels["fine_label"], "coarse": labels["coarse_label"]}
    pixels = shrunk(images, 4)
    for features in (pixels, rectified(projected(pixels, 512)), untrained(pixels, 3)):
        assert faults(diagnose(features, labels=levels)) == []


@pytest.mark.slow
def test_mnist_at_full_size():
    images, labels = mnist(10_000)
    assert faults(diagnose(images.reshape(len(images), -1), labels=labels)) == []
