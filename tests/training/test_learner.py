import dataclasses
import json
import math

import pytest
import torch

from repscope._checking import EXIT_GATE, InputError
from repscope.objectives.contrastive import NTXent
from repscope.training.batch_views import views_of_batch
from repscope.training.batches import batches
from repscope.training.beginning import begun
from repscope.training.checkpoint import load_latest, save_checkpoint
from repscope.training.engine import TrainingDiverged, train
from repscope.training.json_lines import read_rows
from repscope.training.learner import Learner
from repscope.training.preparation import prepare
from repscope.training.run_folder import read_surroundings
from training.tiny_runs import (
    RECIPE,
    REPEATED,
    Crash,
    assert_same,
    crash_after,
    digests,
    recipe_with,
    rows_of,
    tiny_images,
)

CPU = torch.device("cpu")


def test_the_first_step_is_that_of_plain_torch():
    """One step written out with torch alone, from the same views and first weights."""
    recipe = recipe_with("optimiser.name=sgd", "optimiser.weight_decay=0")
    run = begun(recipe, tiny_images(), None, resume=False, device=CPU)
    prepared, learner = run.prepared, run.learner
    before = {k: v.clone() for k, v in learner.backbone.state_dict().items()}
    batch = next(batches(prepared.images, prepared.preprocess, run.plan))
    pair = tuple(torch.rand(32, 1, 16, 16) for _ in range(2))

    other = Learner(prepared, CPU)
    z = [other.head(other.backbone(view)) for view in pair]
    z = torch.nn.functional.normalize(torch.cat(z), eps=1e-8)
    scores = z @ z.T / 0.5
    scores.fill_diagonal_(-math.inf)
    partner = torch.arange(64).roll(32)
    loss = torch.nn.functional.cross_entropy(scores, partner)
    loss.backward()

    assert learner.take_step(batch, pair, learning_rate=0.25)
    assert learner.losses["total"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in other.backbone.named_parameters():
        expected = before[name] - 0.25 * parameter.grad
        found = learner.backbone.get_parameter(name)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_state_tree_comes_back_from_a_checkpoint(tmp_path):
    run = begun(RECIPE, tiny_images(), None, resume=False, device=CPU)
    advance(run, 3)
    save_checkpoint(tmp_path, run.learner.state(), 3)
    found = load_latest(tmp_path).state
    assert_same(dict(found), run.learner.state())
    other = Learner(run.prepared, CPU)
    other.restore(found)
    assert_same(other.state(), run.learner.state())


def test_nothing_outside_the_state_tree_counts():
    """A learner that only took over the tree goes on like the one that made it."""
    run = begun(RECIPE, tiny_images(), None, resume=False, device=CPU)
    advance(run, 2)
    other = dataclasses.replace(run, learner=Learner(run.prepared, CPU))
    other.learner.restore(torch_copy(run.learner.state()))
    advance(run, 3)
    advance(other, 3)
    assert_same(other.learner.state(), run.learner.state())


def advance(run, steps):
    first = run.learner.step
    stream = batches(run.prepared.images, run.prepared.preprocess, run.plan)
    for batch in stream:
        if first <= batch.step < first + steps:
            seen = views_of_batch(batch, run.prepared, CPU)
            run.learner.take_step(batch, seen, learning_rate=0.01)


def torch_copy(tree):
    if isinstance(tree, torch.Tensor):
        return tree.clone()
    if isinstance(tree, dict):
        return {key: torch_copy(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(torch_copy(value) for value in tree)
    return tree


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    learner = Learner(prepare(RECIPE, tiny_images()), CPU)
    other = prepare(recipe_with("encoder.width=8"), tiny_images())
    with pytest.raises(InputError, match="does not fit the recipe"):
        Learner(other, CPU).restore(learner.state())


def broken_at(calls, how):
    """Return an NT-Xent whose loss is changed on some of its calls."""
    original, count = NTXent.__call__, [0]

    def call(self, batch):
        count[0] += 1
        output = original(self, batch)
        if count[0] not in calls:
            return output
        return dataclasses.replace(output, total=how(output.total, batch))

    return call


def as_nan(total, batch):
    return total * float("nan")


def as_infinite(total, batch):
    return total + float("inf")


def as_bad_gradient(total, batch):
    return total + (batch.z[0].sum() * 0).sqrt()  # 0, with the gradient 0 * inf


@pytest.mark.parametrize("how", [as_nan, as_infinite, as_bad_gradient])
def test_a_step_without_a_number_is_skipped_and_counted(tmp_path, monkeypatch, how):
    monkeypatch.setattr(NTXent, "__call__", broken_at({3}, how))
    states = {}

    def observe(snapshot):
        state = snapshot.encoder.module.state_dict()
        states[snapshot.step] = {name: one.clone() for name, one in state.items()}

    encoder = train(RECIPE, tiny_images(), tmp_path, observers=[observe])
    assert_same(states[3], states[2])  # running statistics too
    some = next(iter(states[3]))
    assert not torch.equal(states[4][some], states[3][some])
    row = rows_of(tmp_path)[2]
    assert row["total"] is None or row["gradient_norm"] is None
    [failure] = read_rows(tmp_path / "failures.jsonl")
    assert (failure["step"], failure["batch"]) == (3, "failures/step_003.json")
    batch = json.loads((tmp_path / failure["batch"]).read_text())
    assert len(set(batch["ids"])) == 32
    assert set(batch["ids"]) <= set(tiny_images().ids.tolist())
    assert encoder.provenance["steps skipped"] == "1"


def test_skipped_steps_are_the_same_after_going_on(tmp_path, monkeypatch):
    whole, run = tmp_path / "whole", tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(NTXent, "__call__", broken_at({3, 6}, as_nan))
        train(RECIPE, tiny_images(), whole)
    with monkeypatch.context() as patched:
        patched.setattr(NTXent, "__call__", broken_at({3}, as_nan))
        with pytest.raises(Crash):
            train(RECIPE, tiny_images(), run, observers=[crash_after(5)])
    # from the checkpoint of step 4 on, step 6 is the second call
    monkeypatch.setattr(NTXent, "__call__", broken_at({2}, as_nan))
    train(None, tiny_images(), run, resume=True)
    names = (*REPEATED, "failures.jsonl")
    assert digests(run, names) == digests(whole, names)


def test_too_many_in_a_row_stop_the_run_and_keep_the_last_good_weights(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(NTXent, "__call__", broken_at(range(5, 99), as_nan))
    recipe = recipe_with("training.maximum_nonfinite=3", "training.keep=9")
    with pytest.raises(
        TrainingDiverged, match=r"3 steps in a row, up to step 7"
    ) as caught:
        train(recipe, tiny_images(), tmp_path)
    assert caught.value.exit_code == EXIT_GATE
    found = load_latest(tmp_path / "checkpoints")
    assert found.step == 6
    for name, value in found.state["backbone"].items():
        assert value.isfinite().all(), name
    assert not (tmp_path / "encoder.safetensors").exists()
    assert read_surroundings(tmp_path).sessions[-1].outcome == "failed"


def test_good_steps_between_reset_the_count(tmp_path, monkeypatch):
    monkeypatch.setattr(NTXent, "__call__", broken_at({2, 3, 5, 6, 8, 9}, as_nan))
    encoder = train(recipe_with("training.maximum_nonfinite=3"), tiny_images())
    assert encoder.provenance["steps skipped"] == "6"
