"""Every method is exact: resumed, restored and skipped steps, one test for all."""

import copy
import dataclasses
import functools
import itertools

import pytest
import torch

from repscope.objectives.catalogue import OBJECTIVES
from repscope.training.batch_views import views_of_batch
from repscope.training.batches import batches
from repscope.training.beginning import begun
from repscope.training.checkpoint import load_latest, save_checkpoint
from repscope.training.engine import train
from repscope.training.learner import Learner
from training.many_methods import METHODS, objective_of, recipe_of
from training.tiny_runs import Crash, assert_same, crash_after, digests, tiny_images

CPU = torch.device("cpu")
# Seven steps; checkpoints after steps 2, 4 and 6.
SHORT = ("training.batch_size=14", "training.epochs=1")
GROUPS = {"moco": "training.bn_splits=2"}  # and shuffled rows of the keys


def short(method):
    words = (GROUPS[method],) if method in GROUPS else ()
    return recipe_of(method, *SHORT, *words)


def test_every_objective_is_among_the_methods():
    assert {objective_of(method) for method in METHODS} == set(OBJECTIVES)


# Those that remember most; all others and other steps are among the slow tests.
QUICK = {("moco", 5), ("inst_disc_nce", 5), ("byol", 5), ("swav_queue", 5)}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Return a function that gives the run of a method that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")

    @functools.cache
    def whole(method):
        train(short(method), tiny_images(), folder / method)
        return folder / method

    return whole


@pytest.mark.parametrize(
    ("method", "step"),
    [
        pytest.param(method, step, marks=() if one in QUICK else pytest.mark.slow)
        for one in itertools.product(METHODS, [1, 4, 5])
        for method, step in [one]
    ],
)
def test_a_run_that_goes_on_gives_the_same_files(method, step, wholes, tmp_path):
    with pytest.raises(Crash):
        train(short(method), tiny_images(), tmp_path, observers=[crash_after(step)])
    train(None, tiny_images(), tmp_path, resume=True)
    assert digests(tmp_path) == digests(wholes(method))
    ends = [load_latest(run / "checkpoints") for run in (tmp_path, wholes(method))]
    assert_same(dict(ends[0].state), dict(ends[1].state))


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_a_step_is_the_sum_of_its_parts(method):
    run = begun(short(method), tiny_images(), None, resume=False, device=CPU)
    advance(run, 2)
    losses = run.learner.losses
    assert all(value is not None for value in losses.values())
    whole = losses["invariance"] + losses["regularization"]
    assert losses["total"] == pytest.approx(whole, rel=1e-6, abs=1e-6)


def advance(run, steps):
    first = run.learner.step
    stream = batches(
        run.prepared.images,
        run.prepared.preprocess,
        run.plan,
        labels=run.prepared.labels,
        first_step=first,
    )
    for _, batch in zip(range(steps), stream, strict=False):
        seen = views_of_batch(batch, run.prepared, CPU)
        run.learner.take_step(batch, seen, learning_rate=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_the_state_comes_back_and_is_all_that_counts(method, tmp_path):
    """A learner that only took over the tree goes on like the one that made it."""
    run = begun(short(method), tiny_images(), None, resume=False, device=CPU)
    advance(run, 2)
    save_checkpoint(tmp_path, run.learner.state(), 2)
    found = load_latest(tmp_path).state
    assert_same(dict(found), run.learner.state())
    learner = Learner(run.prepared, CPU, total_steps=run.plan.total_steps)
    other = dataclasses.replace(run, learner=learner)
    learner.restore(found)
    assert_same(learner.state(), run.learner.state())
    advance(run, 2)
    advance(other, 2)
    assert_same(learner.state(), run.learner.state())


@pytest.mark.parametrize("method", METHODS)
def test_a_step_without_a_number_leaves_all_but_the_counters(method, monkeypatch):
    run = begun(short(method), tiny_images(), None, resume=False, device=CPU)
    advance(run, 1)
    before = copy.deepcopy(run.learner.state())
    kind = type(run.prepared.objective)
    original = kind.__call__

    def broken(self, batch):
        output = original(self, batch)
        return dataclasses.replace(output, total=output.total * float("nan"))

    monkeypatch.setattr(kind, "__call__", broken)
    advance(run, 1)
    after = run.learner.state()
    assert (after["nonfinite_total"], after["step"]) == (1, 2)
    counters = ("step", "nonfinite_in_row", "nonfinite_total", "losses")
    for name in set(before) - set(counters):
        assert_same(after[name], before[name], name)
