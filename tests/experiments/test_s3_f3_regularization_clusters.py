"""S3-F3L on losses by hand; the training is that of S3-F2 and lies in its tests."""

import numpy as np
import pytest

from experiments.stand_ins import reading
from repscope._images import Preprocess
from repscope.experiments.s3_f3_regularization_clusters import EXPERIMENT, parts
from repscope.experiments.watched_training import Watched
from repscope.metrics.decomposition import LossCurves
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import Encoder


def watched(invariance, regularization):
    """Return a training of 60 epochs whose losses move from one value to another."""
    epochs = np.arange(1.0, 61.0)
    inv, reg = (
        np.interp(epochs, (1, 3, 60), values) for values in (invariance, regularization)
    )
    read = {3: reading(0.5, 0.4), 60: reading(1.0, 0.8)}
    backbone = build(Architecture("res_lh", channels=1, depth=1, width=4))
    encoder = Encoder.of(backbone, Preprocess(16, channels=1))
    return Watched(encoder, read, LossCurves.of(epochs, inv + reg, inv, reg))


def numbers(*losses):
    return {name: one.value for name, one in parts(watched(*losses)).items()}


def test_shares_are_those_of_the_fall():
    found = numbers((11.0, 2.0, 1.0), (10.0, 14.0, 11.0))
    assert found["invariance_1"] == 11 and found["regularization_3"] == 14
    assert found["share_3"] == pytest.approx(3 / (3 + 1))
    # Invariance is at 95 % of its fall of 10 where it is 1.5: half-way from 3 to 60.
    assert found["invariance_saturation"] == 32
    assert found["share_saturated"] == pytest.approx(3 / (3 + 1))
    assert EXPERIMENT.predicate(found)


def test_a_loss_whose_invariance_falls_is_refuted():
    found = numbers((11.0, 8.0, 1.0), (10.0, 14.0, 13.0))
    assert found["share_3"] == pytest.approx(1 / 8)
    assert not EXPERIMENT.predicate(found)
