"""What is kept of a training that is watched: losses by epoch, looks, the encoder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from repscope.data.digits import digits16
from repscope.experiments.digits_recipes import vicreg_recipe, with_seed
from repscope.experiments.experiment import Workplace
from repscope.experiments.watched_training import trained, watched
from repscope.representations.embed import embed
from repscope.training.recipe import difference
from repscope.training.snapshot import Stop

# Four steps in all, on 128 digits.
_WHOLE = vicreg_recipe(depth=1, width=8, epochs=2)
RECIPE = replace(
    _WHOLE,
    data=replace(_WHOLE.data, limit=130),
    training=replace(_WHOLE.training, batch_size=64),
)


def features(encoder):
    return embed(encoder, digits16("test"), device="cpu", thumbnails=False).features()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("runs"), device="cpu")
    looked = watched(RECIPE, place, "one", epochs=(0, 1, 2), look=features)
    return looked, place.folder / "one"


def test_the_encoder_is_seen_after_the_epochs_asked_for(course):
    looked, _ = course
    assert list(looked.seen) == [0, 1, 2]
    assert np.array_equal(looked.seen[2], features(looked.encoder))
    assert not np.allclose(looked.seen[1], looked.seen[2])


def test_epoch_0_is_what_training_began_with(course):
    looked, _ = course
    begun = trained(RECIPE, Workplace(device="cpu"), "none", observers=[_stop_at_once])
    untrained = begun.untrained(RECIPE.training.seed)
    assert np.array_equal(looked.seen[0], features(untrained))


def _stop_at_once(snapshot):
    return Stop("enough")


def test_losses_are_means_of_the_rows_that_training_writes(course):
    looked, run = course
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert looked.losses.epochs.tolist() == [1, 2]
    for name in ("total", "invariance", "regularization"):
        for epoch in (1, 2):
            own = [row[name] for row in rows if row["epoch"] == epoch - 1]
            assert len(own) == 2
            found = getattr(looked.losses, name)[epoch - 1]
            assert found == pytest.approx(np.mean(own), rel=1e-12)


def test_looking_changes_nothing(course):
    looked, _ = course
    alone = trained(RECIPE, Workplace(device="cpu"), "alone")
    own, other = (one.module.state_dict() for one in (looked.encoder, alone))
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_another_seed_is_all_that_a_recipe_changes():
    other = with_seed(RECIPE, 1)
    assert difference(RECIPE, other) == ("training.seed: 0 -> 1",)
