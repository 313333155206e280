"""What probes read of labels, beside scikit-learn on the same features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler
from torch import nn

from repscope._images import Preprocess
from repscope.data.digits import digits16
from repscope.experiments.read_labels import Rows, rows_of, with_statistics_of
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import Encoder


@pytest.fixture(scope="module")
def encoder():
    backbone = build(Architecture("res_lh", channels=1, depth=2, width=12)).eval()
    return Encoder.of(backbone, Preprocess(16, channels=1))


@pytest.fixture(scope="module")
def rows(encoder) -> Rows:
    return rows_of(encoder, digits16("train"), digits16("test"), device="cpu")


def test_rows_are_those_of_the_sets_in_order(encoder, rows):
    assert rows.known.shape == (1297, 12) and rows.asked.shape == (500, 12)
    assert rows.known.dtype == np.float64
    assert np.array_equal(rows.asked_labels, digits16("test").level("digit").codes)
    assert rows.n_classes == 10
    pairs = rows_of(
        encoder, digits16("train"), digits16("test"), level="pair", device="cpu"
    )
    assert pairs.n_classes == 5 and np.array_equal(pairs.known, rows.known)


def test_a_layer_can_be_asked_for(encoder, rows):
    sets = digits16("train"), digits16("test")
    first = rows_of(encoder, *sets, layer="block1", device="cpu")
    last = rows_of(encoder, *sets, layer="block2", device="cpu")
    assert not np.allclose(first.known, rows.known)
    assert np.allclose(last.known, rows.known, atol=1e-6)  # h is its mean over places


def test_centres_read_as_those_of_scikit_learn(rows):
    peer = NearestCentroid().fit(rows.known, rows.known_labels)
    found = rows.nearest_centres()
    assert found.test_accuracy == peer.score(rows.asked, rows.asked_labels)
    assert found.train_accuracy == peer.score(rows.known, rows.known_labels)


def test_the_linear_probe_reads_as_that_of_scikit_learn(rows):
    scaler = StandardScaler().fit(rows.known)
    peer = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8)
    peer.fit(scaler.transform(rows.known), rows.known_labels)
    expected = peer.score(scaler.transform(rows.asked), rows.asked_labels)
    assert rows.linear().test_accuracy == pytest.approx(expected, abs=2 / 500)


def test_statistics_are_those_of_the_images(encoder, rows):
    images = digits16("train")
    before = {name: one.clone() for name, one in encoder.module.state_dict().items()}
    own = with_statistics_of(encoder, images)
    seen = {}
    first = own.module.stem1
    norm = next(one for one in first.modules() if isinstance(one, nn.BatchNorm2d))
    norm.register_forward_hook(lambda _, given, out: seen.update(given=given[0]))
    found = rows_of(own, images, digits16("test"), device="cpu")
    assert not np.allclose(found.known, rows.known, atol=1e-3)
    pixels = torch.from_numpy(images.pixels(np.arange(images.n)).array)
    own.module(pixels.permute(0, 3, 1, 2).float() / 255)
    values = seen["given"].detach().double()
    mean, variance = values.mean(dim=(0, 2, 3)), values.var(dim=(0, 2, 3))
    assert torch.allclose(norm.running_mean.double(), mean, atol=1e-5)
    assert torch.allclose(norm.running_var.double(), variance, rtol=1e-4)
    # the encoder that was given is as it was, and the other is evaluated
    after = encoder.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not own.module.training
