"""The watch: what it writes, that it changes nothing, when it warns and when it stops.

Encoders are planted: fixed projections of the pixels that are sound, collapsed or too
narrow to tell. Real trainings are tiny and compared bit by bit.
"""

import dataclasses
import json
import logging
import math
import os

import numpy as np
import pytest
import torch
from torch import nn

from repscope._arrays import hash_ids
from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.data.images import Images
from repscope.data.imageset import ImageSet
from repscope.diagnosis.watch import JUDGED_FROM_STEP, watch
from repscope.models.encoder import Encoder
from repscope.representations.embed import embed
from repscope.representations.splitting import default_split
from repscope.training.engine import train
from repscope.training.json_lines import read_rows
from repscope.training.run_folder import WATCH_NAME, read_surroundings
from repscope.training.snapshot import Snapshot, Stop
from training.tiny_runs import (
    RECIPE,
    STEPS,
    Crash,
    crash_after,
    digests,
    recipe_with,
    tiny_images,
)

EVERY = 4
LAYERS = ["block1", "h"]
LOOKS = [1, 4, 8, 9]  # the first, each fourth, the last
LATER = JUDGED_FROM_STEP


class Projection(nn.Module):
    """Features x -> W (x - 1/2) + offset of the pixels x in [0, 1]."""

    def __init__(self, weight, offset=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float32))
        self.offset = offset

    def forward(self, images):
        rows = images.flatten(1).to(self.weight) - 0.5
        return rows @ self.weight.T + self.offset


def planted(kind: str, d: int = 24) -> Encoder:
    """Return an encoder of `pictures()`: sound, flat (two dimensions) or constant."""
    weight = np.random.default_rng(3).standard_normal((d, 64))
    offset = 0.0
    if kind == "flat":
        left, _, right = np.linalg.svd(weight)
        weight = left[:, :2] @ right[:2]
    if kind == "constant":
        weight, offset = 1e-4 * weight, 1.0
    if kind == "broken":
        weight = np.where(np.arange(d)[:, None] == 0, np.inf, weight)
    preprocess = Preprocess(8, channels=1, mean=(0.0,), std=(1.0,))
    return Encoder.of(Projection(weight, offset), preprocess)


def pictures(n: int = 300) -> ImageSet:
    """Return noise of 8 x 8 pixels; the label, of four, is in no feature."""
    pixels = np.random.default_rng(5).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    labels = {"fine": np.arange(n) % 4, "coarse": np.arange(n) % 4 // 2}
    return ImageSet.of(pixels, labels=labels, name="noise")


def snapshot(encoder, step=LATER, *, finished=False, folder=None) -> Snapshot:
    encoder.module.eval()
    return Snapshot(step, 0, {"total": 1.0}, encoder, finished, folder)


def seen(kind, step=LATER, **given):
    """Return the one look that a watch of a planted encoder takes."""
    looks = []
    watch(pictures(), every=1, on=[looks.append], **given)(
        snapshot(planted(kind), step)
    )
    return looks[0]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Only a machine that loses its power would tell; waiting takes most of a test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The folder of a whole run that was watched; not to be written to."""
    run = tmp_path_factory.mktemp("watched") / "run"
    observer = watch(tiny_images(), every=EVERY, layers=LAYERS)
    train(RECIPE, tiny_images(), run, observers=[observer])
    return run


def test_a_run_that_is_watched_gives_the_same_bits(watched, tmp_path):
    train(RECIPE, tiny_images(), tmp_path)
    assert digests(watched) == digests(tmp_path)


def test_a_look_leaves_modes_statistics_and_generators_alone():
    # batch normalisation: its running statistics would move in training mode
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5))
    encoder = Encoder.of(module, Preprocess(8, channels=1, mean=(0.0,), std=(1.0,)))
    module.train()
    module[2].eval()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    drawn = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    taken = Snapshot(1, 0, {}, encoder, False, None)
    assert watch(pictures(), every=1)(taken) is None
    assert [part.training for part in module.modules()] == modes
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert np.array_equal(np.random.get_state()[1], drawn[1])  # noqa: NPY002
    assert all(one.grad is None for one in module.parameters())


def test_it_looks_after_the_first_step_each_so_many_and_the_last(watched):
    rows = read_rows(watched / WATCH_NAME)
    assert [row["step"] for row in rows] == LOOKS
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [list(row["layers"]) for row in rows] == [LAYERS] * len(LOOKS)
    assert all(set(row) == {"step", "epoch", "layers", "findings"} for row in rows)


def test_rows_are_strict_json_with_a_reason_for_each_missing_number(watched):
    for line in (watched / WATCH_NAME).read_text().splitlines():
        row = json.loads(line, parse_constant=pytest.fail)
        for values in row["layers"].values():
            missing = {name for name, value in values.items() if value is None}
            assert missing - {"alpha_r_squared"} == set(values.get("reasons", ()))


@pytest.mark.parametrize("step", [4, STEPS])
def test_a_run_that_goes_on_gives_the_same_rows(watched, tmp_path, step):
    first = watch(tiny_images(), every=EVERY, layers=LAYERS)
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), tmp_path, observers=[first, crash_after(step)])
    again = watch(tiny_images(), every=EVERY, layers=LAYERS)
    train(None, tiny_images(), tmp_path, resume=True, observers=[again])
    names = (WATCH_NAME, "metrics.jsonl", "encoder.safetensors")
    assert digests(tmp_path, names) == digests(watched, names)


def test_a_new_run_in_the_folder_begins_new_rows(tmp_path):
    for _ in range(2):
        observer = watch(tiny_images(), every=STEPS)
        train(RECIPE, tiny_images(), tmp_path, observers=[observer], overwrite=True)
    assert [row["step"] for row in read_rows(tmp_path / WATCH_NAME)] == [1, STEPS]


def test_numbers_are_those_of_plain_formulas():
    values = seen("sound").row["layers"]["output"]
    images = pictures()
    pixels = images.pixels(np.arange(images.n)).array[..., 0] / 255 - 0.5
    weight = planted("sound").module.weight.detach().double().numpy()
    rows = pixels.reshape(images.n, -1) @ weight.T
    singular = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    shares = singular / singular.sum()
    rank = math.exp(-(shares * np.log(shares)).sum())
    assert values["effective_rank"] == pytest.approx(rank, rel=1e-5)
    scores = [(one.max() - one.mean()) / one.std() / np.abs(one).sum() for one in rows]
    ordered = sorted(scores)  # 300 of them: 5 % lies between the 15th and the 16th
    fifth = ordered[14] + 0.95 * (ordered[15] - ordered[14])
    assert values["q_score"]["p5"] == pytest.approx(fifth, rel=1e-5)
    assert values["q_score"]["mean"] == pytest.approx(np.mean(scores), rel=1e-5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = [
        math.exp(-2 * ((one - other) ** 2).sum())
        for i, one in enumerate(unit)
        for other in unit[:i]
    ]
    assert values["uniformity"] == pytest.approx(math.log(np.mean(kernel)), rel=1e-5)


def test_classes_are_read_on_rows_chosen_by_their_ids_at_every_level():
    values = seen("sound").row["layers"]["output"]
    images, encoder = pictures(), planted("sound")
    rows = embed(encoder, images, thumbnails=False).features().astype(float)
    is_test = default_split(images.ids, images.labels["fine"], hash_ids(images.ids))
    assert is_test.sum() == 60
    for level, labels in images.labels.items():
        centres = [
            rows[~is_test & (labels == one)].mean(axis=0) for one in np.unique(labels)
        ]
        right = [
            np.argmin([((row - centre) ** 2).sum() for centre in centres]) == label
            for row, label in zip(rows[is_test], labels[is_test], strict=True)
        ]
        assert values["ncc_accuracy"][level] == pytest.approx(np.mean(right))
    assert set(values["linear_accuracy"]) == set(values["cdnv"]) == {"fine", "coarse"}


def test_without_labels_nothing_is_probed():
    values = seen("sound", labels=()).row["layers"]["output"]
    assert not {"ncc_accuracy", "cdnv", "linear_accuracy"} & set(values)


def test_the_images_are_a_fixed_part_of_each_class_whatever_their_order():
    images = pictures()
    turned = images.subset(np.arange(images.n)[::-1])
    chosen, other = (watch(one, every=1, limit=40).images for one in (images, turned))
    assert sorted(chosen.ids.tolist()) == sorted(other.ids.tolist())
    assert np.bincount(chosen.labels["fine"]).tolist() == [10] * 4


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        ("flat", "RS102", "effective rank of the covariance"),
        ("constant", "RS101", "of the rows' length is variation"),
    ],
)
def test_a_planted_collapse_is_warned_of_once_with_what_to_do(kind, code, word, caplog):
    observer = watch(pictures(), every=1)
    for step in range(LATER, LATER + 3):
        observer(snapshot(planted(kind), step))
    warnings = [one.message for one in caplog.records if one.levelname == "WARNING"]
    (warning,) = [one for one in warnings if code in one]
    assert f"step {LATER}: {code}" in warning
    assert word in warning
    assert "To do: " in warning
    assert (
        f"docs/failures/{'complete' if code == 'RS101' else 'dimensional'}" in warning
    )


def test_the_end_of_a_collapse_is_told_too(caplog):
    caplog.set_level(logging.INFO)
    observer = watch(pictures(), every=1)
    for step, kind in enumerate(("flat", "sound", "flat"), start=LATER):
        observer(snapshot(planted(kind), step))
    told = [one.message for one in caplog.records if "RS102" in one.message]
    assert [one.partition(":")[0] for one in told] == ["step 50", "step 51", "step 52"]
    assert "no longer" in told[1]


def test_a_sound_encoder_is_silent(caplog):
    look = seen("sound")
    assert [one.status.value for one in look.findings] == ["absent", "absent"]
    assert [one for one in caplog.records if one.levelname == "WARNING"] == []


def test_too_few_dimensions_to_tell_are_undecided_and_silent(caplog):
    observer = watch(pictures(), every=1, fail_on="RS102")
    assert observer(snapshot(planted("flat", d=6))) is None
    assert "RS102" not in caplog.text


class Amplified(Projection):
    """Makes of a white picture a row ten thousand times as long."""

    def forward(self, images):
        is_white = (images.flatten(1).min(dim=1, keepdim=True).values == 1).float()
        return super().forward(images) * (1 + 1e4 * is_white)


def test_a_single_row_of_another_scale_is_no_collapse():
    """The rank is that of one row; only the intervals of the spectrum tell."""
    images = pictures()
    pixels = images.pixels(np.arange(images.n)).array[..., 0].copy()
    pixels[17] = 255
    sound = planted("sound")
    encoder = dataclasses.replace(sound, module=Amplified(sound.module.weight))
    looks = []
    watched = ImageSet.of(pixels, labels=images.labels)
    watch(watched, every=1, on=[looks.append])(snapshot(encoder))
    assert looks[0].numbers["effective_rank_covariance"] < 2
    assert looks[0].row["findings"]["RS102"] == "undecided"


def test_nothing_is_judged_while_statistics_are_not_yet_those_of_the_data(caplog):
    observer = watch(pictures(), every=1, fail_on="RS102")
    assert observer(snapshot(planted("flat"), LATER - 1)) is None
    assert observer.failed is None
    assert "RS102" not in caplog.text
    assert seen("flat", LATER - 1).row["findings"] == {}


def test_the_last_step_of_a_short_run_is_judged():
    observer = watch(pictures(), every=1, fail_on="RS102")
    assert observer(snapshot(planted("flat"), 7, finished=True)) is None
    assert observer.failed == "step 7: RS102 dimensional collapse: found"


def test_what_was_said_in_an_earlier_session_is_not_said_again(tmp_path, caplog):
    watch(pictures(), every=1)(snapshot(planted("flat"), folder=tmp_path))
    assert caplog.text.count("RS102") == 1
    later = watch(pictures(), every=1)
    later(snapshot(planted("flat"), LATER + 1, folder=tmp_path))
    assert caplog.text.count("RS102") == 1
    assert [row["step"] for row in read_rows(tmp_path / WATCH_NAME)] == [50, 51]


@pytest.mark.parametrize(
    ("expression", "failure"),
    [
        ("RS102", "RS102 dimensional collapse: found"),
        ("effective_rank<0.1*d", "effective_rank 1.99717 < 2.4 (0.1*d)"),
        ("participation_ratio<4", "participation_ratio"),  # measured since it is asked
        ("linear_accuracy[coarse]<0.99", "linear_accuracy[coarse]"),
        ("alpha>9", "could not be decided"),
    ],
)
def test_a_gate_that_fails_ends_the_training(expression, failure):
    observer = watch(pictures(), every=1, fail_on=expression)
    stop = observer(snapshot(planted("flat")))
    assert isinstance(stop, Stop)
    assert failure in stop.reason
    assert observer.failed is not None
    assert observer.failed in stop.reason


def test_a_gate_that_passes_lets_it_go_on():
    observer = watch(pictures(), every=1, fail_on=["any", "effective_rank<0.1*d"])
    assert observer(snapshot(planted("sound"))) is None
    assert observer.failed is None


def test_a_run_that_a_gate_ends_is_whole(tmp_path):
    recipe = recipe_with("training.epochs=20")
    observer = watch(tiny_images(), every=STEPS, fail_on="effective_rank<0.99*d")
    train(recipe, tiny_images(), tmp_path, observers=[observer])
    (session,) = read_surroundings(tmp_path).sessions
    assert session.last_step == 54  # the first multiple of 9 from 50 on
    assert session.outcome == f"stopped: gate failed, {observer.failed}"
    assert Encoder.load(tmp_path / "encoder.safetensors").facts["steps"] == "54"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, "every: steps between looks"),
        ({"labels": ["fin"]}, "did you mean fine"),
        ({"fail_on": "RS201"}, "unknown finding code 'RS201'"),
        ({"fail_on": "effective_rnk<3"}, "did you mean effective_rank"),
        ({"fail_on": "effective_rank@block2<3"}, "did not measure effective_rank@bl"),
        ({"fail_on": "linear_accuracy<0.5"}, r"linear_accuracy\[coarse\]"),
        ({"fail_on": "linear_accuracy<0.5", "labels": ()}, "did not measure linear"),
        ({"fail_on": "alignment<0.5"}, "alignment cannot be watched, it needs views"),
        ({"fail_on": "alpha<0.5*baseline"}, "needs a baseline"),
    ],
)
def test_what_no_look_can_answer_is_refused_before_training(given, message):
    with pytest.raises(UsageError, match=message):
        watch(pictures(), **({"every": 1} | given))


def test_a_layer_that_was_asked_for_can_be_gated():
    observer = watch(
        tiny_images(),
        every=STEPS,
        layers=["block1", "h"],
        fail_on="effective_rank@block1<99",
    )
    train(RECIPE, tiny_images(), observers=[observer])
    assert observer.failed is not None
    assert "effective_rank@block1" in observer.failed


def test_features_that_are_no_numbers_have_reasons_and_end_nothing(caplog):
    look = seen("broken")
    values = look.row["layers"]["output"]
    assert values["effective_rank"] is None
    assert "NaN or infinity" in values["reasons"]["ncc_accuracy[coarse]"]
    assert look.scalars == {}
    assert [one.status.value for one in look.findings] == ["undecided", "undecided"]
    json.dumps(look.row, allow_nan=False)


class OneBroken(Images):
    """The pictures, of which one cannot be read; counts how often one was asked for."""

    def __init__(self, images):
        self.images, self.n_read = images, 0

    name = property(lambda self: self.images.name)
    n = property(lambda self: self.images.n)
    shape = None
    parallel = False

    def read(self, row):
        self.n_read += 1
        if row == 7:
            raise InputError("picture 7 is cut short")
        return self.images.read(row)

    def fingerprint(self, rows):
        return self.images.fingerprint(rows)


def test_pictures_are_read_once_and_a_broken_one_has_no_row():
    whole = pictures()
    source = OneBroken(whole.images)
    images = dataclasses.replace(whole, images=source)
    looks = []
    observer = watch(images, every=1, on=[looks.append])
    observer(snapshot(planted("sound")))
    once = source.n_read
    observer(snapshot(planted("sound"), LATER + 1))
    assert source.n_read == once
    assert looks[0].layers["output"][0].n == whole.n - 1
    assert looks[0].row["layers"] == looks[1].row["layers"]
