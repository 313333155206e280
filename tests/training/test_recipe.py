import dataclasses
import os
import tomllib
import typing

import pytest

from repscope._checking import EXIT_USAGE, InputError, UsageError
from repscope.training.recipe import (
    AugmentationSection,
    DataSection,
    EncoderSection,
    HeadSection,
    ObjectiveSection,
    OptimiserSection,
    PredictorSection,
    Recipe,
    TrainingSection,
    difference,
    override,
)

FULL = Recipe(
    data=DataSection("digits", "train", 16, 1, 500, 8, 3, 18),
    augmentation=AugmentationSection(
        "digits16", 0.5, 0.4, 1.0, 0.0, 0.8, 0.2, 0.5, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    ),
    encoder=EncoderSection("res_lh", 2, 32, "cifar", 4, 3, (64, 32)),
    head=HeadSection("mlp2", 64, 32, bn=True),
    predictor=PredictorSection("byol", 48, 24, bn=False),
    objective=ObjectiveSection(
        "vicreg", {"invariance": 25.0, "average": False}, "coarse"
    ),
    optimiser=OptimiserSection(
        *("sgd", 0.03, 0.8, 1e-4, 0.5, "step", 0.0, 0.01),
        exclude_1d=True,
        milestones=(1.0, 2.0),
        step_factor=0.5,
        nesterov=True,
    ),
    training=TrainingSection(
        *(3, 64, 7, 4, 5),
        channels_last=False,
        precision="float32",
        compile=True,
        batch_norm="global",
        seed=11,
    ),
)


@pytest.mark.parametrize("recipe", [Recipe(), FULL], ids=["default", "full"])
def test_a_recipe_comes_back_from_its_toml(tmp_path, recipe):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.dump(), encoding="utf-8")
    assert Recipe.load(path) == recipe


def test_the_full_example_sets_every_field_otherwise_than_by_default():
    for section, values in dataclasses.asdict(Recipe()).items():
        for key, value in values.items():
            # these two exclude what the example has: global statistics, and SGD
            if (section, key) not in {("training", "bn_splits"), ("optimiser", "clip")}:
                assert getattr(getattr(FULL, section), key) != value, (section, key)


def test_the_toml_spells_out_every_default_that_has_a_value():
    plain = tomllib.loads(Recipe().dump())
    assert plain["training"] == dataclasses.asdict(TrainingSection())
    optimiser = dataclasses.asdict(OptimiserSection())
    assert plain["optimiser"] == optimiser | {"milestones": []}


def test_what_may_be_none_is_none_by_default_so_that_leaving_it_out_says_so():
    for section in dataclasses.fields(Recipe):
        kind = section.default_factory
        for name, hint in typing.get_type_hints(kind).items():
            if type(None) in typing.get_args(hint):
                assert getattr(kind(), name) is None, (section.name, name)


def test_a_file_that_leaves_things_out_has_the_defaults(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('[training]\nepochs = 2\n[objective]\nname = "vicreg"\n')
    recipe = Recipe.load(path)
    assert difference(Recipe(), recipe) == (
        "objective.name: nt_xent -> vicreg",
        "training.epochs: 20 -> 2",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[trainig]\nepochs = 3", "'trainig'.*\n.*did you mean training"),
        ("[training]\nepoch = 3", "'training.epoch'.*\n.*did you mean epochs"),
        ("[training]\nepochs = 3.0", "training.epochs = 3.0.*\n.*a whole number"),
        ("[training]\nepochs = true", "training.epochs = True.*\n.*a whole number"),
        ('[training]\nchannels_last = "no"', "channels_last = 'no'.*\n.*true or false"),
        ("[training]\nepochs = 0", "training.epochs = 0.*\n.*at least 1"),
        ("[training]\nbatch_size = 1", "batch_size = 1.*\n.*at least 2"),
        ("[training]\nkeep = 0", "training.keep = 0.*\n.*at least 1"),
        ("[optimiser]\nlearning_rate = nan", "learning_rate = nan.*\n.*finite"),
        ("[optimiser]\nlearning_rate = 0", "learning_rate = 0.0.*\n.*more than 0"),
        ("[optimiser]\nmomentum = 1.0", "momentum = 1.0.*\n.*below 1"),
        ("[optimiser]\nfinal_fraction = 2", "final_fraction = 2.0.*\n.*0 to 1"),
        ("[optimiser]\nweight_decay = -1", "weight_decay = -1.0.*\n.*at least 0"),
        ("[optimiser]\nwarmup_epochs = 21", "warmup_epochs = 21.0.*\n.*at most"),
        ('[optimiser]\nname = "sdg"', "optimiser.name = 'sdg'\n.*did you mean sgd"),
        ("[data]\nchannels = 2", "data.channels = 2\n.*choose from 1, 3"),
        ("[data]\nsize = 0", "data.size = 0\n.*1 to 4,096"),
        ("[data]\nsize = 100000", "data.size = 100000\n.*1 to 4,096"),
        ("[data]\nbits = 33", "data.bits = 33.*\n.*0 to 32"),
        ("[data]\nlimit = 1", "data.limit = 1.*\n.*at least 2"),
        ("[augmentation]\nblur = 1.5", "augmentation.blur = 1.5.*\n.*0 to 1"),
        ("[augmentation]\ncrop_minimum = 0", "crop_minimum = 0.0\n.*above 0"),
        ("[augmentation]\ncrop_maximum = 0", "crop_maximum = 0.0\n.*above 0"),
        (
            "[augmentation]\ncrop_minimum = 0.9\ncrop_maximum = 0.1",
            "crop_minimum = 0.9\n.*at most augmentation.crop_maximum = 0.1",
        ),
        ("[augmentation]\nstrength = -1", "strength = -1.0.*\n.*at least 0"),
        ("data = 3", "data = 3.*\n.*a table"),
        ("[objective]\noptions = 3", "objective.options = 3.*\n.*a table"),
        ("[objective.options]\na = inf", "objective.options.a = inf"),
        ("[objective.options]\na = [[1]]", r"objective.options.a = \[\[1\]\]"),
        ("training\n", "no valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        Recipe.load(path)
    assert caught.value.exit_code == EXIT_USAGE
    assert str(caught.value).startswith("wrong.toml: ")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "wrong.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"wrong.toml: no valid TOML"):
        Recipe.load(tmp_path / "wrong.toml")


# Lists nest through calls of the parser; dotted keys nest without, and end in a value
# that has to be shown.
DEEP = {
    "lists": "[data]\nsize = " + "[" * 10_000,
    "tables": "a = " + "{b = " * 5000,
    "a value": "[data]\nsource" + ".a" * 5000 + " = 1",
    "an option": "[objective.options]\nx" + ".a" * 5000 + " = 1",
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_a_file_that_is_nested_without_end_is_refused(tmp_path, content):
    (tmp_path / "deep.toml").write_text(content)
    with pytest.raises(UsageError, match=r"^deep.toml: is nested too deeply\n"):
        Recipe.load(tmp_path / "deep.toml")


@pytest.mark.parametrize(
    "value", ["[" * 100_000, "{x" + ".a" * 5000 + " = 1}"], ids=["lists", "tables"]
)
def test_an_override_that_is_nested_without_end_is_refused(value):
    with pytest.raises(UsageError, match=r"^data.source: is nested too deeply\n"):
        override(Recipe(), [f"data.source={value}"])


def test_a_file_that_is_longer_than_any_recipe_is_not_parsed(tmp_path):
    (tmp_path / "long.toml").write_text("#" * 32_000)
    assert Recipe.load(tmp_path / "long.toml") == Recipe()
    (tmp_path / "long.toml").write_text("#" * 32_001)
    with pytest.raises(UsageError, match=r"is no recipe\n.*more than 32 kB"):
        Recipe.load(tmp_path / "long.toml")


@pytest.mark.parametrize("key", ["source", "split"])
def test_a_name_that_is_no_text_is_refused_before_it_is_to_be_written(key):
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(UsageError, match=rf"data.{key} = 'caf\\udce9'.*\n.*\n.*ln -s"):
        override(Recipe(), [f"data.{key}={name}"])


def test_a_missing_file_is_named_with_its_neighbour(tmp_path):
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(InputError, match=r"did you mean recipe\.toml"):
        Recipe.load(tmp_path / "recipes.toml")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("training.epochs=3", 3),
        ("training.epochs = 3 ", 3),
        ("training.channels_last=false", False),
        ("optimiser.learning_rate=1", 1.0),
        ("optimiser.learning_rate=3e-4", 3e-4),
        ("optimiser.name=adamw", "adamw"),
        ('optimiser.name="adamw"', "adamw"),
        ("data.limit=500", 500),
        ("data.limit=none", None),
        ("data.source=a=b, c.zip", "a=b, c.zip"),
        ("head.bn=true", True),
        ("encoder.name=no_such_thing_yet", "no_such_thing_yet"),
    ],
)
def test_an_override_is_typed_by_its_field(word, value):
    recipe = override(Recipe(data=DataSection(limit=9)), [word])
    section, key = word.partition("=")[0].strip().split(".")
    found = getattr(getattr(recipe, section), key)
    assert found == value
    assert type(found) is type(value)


def test_options_of_the_objective_are_set_one_by_one():
    recipe = override(
        Recipe(objective=ObjectiveSection("nt_xent", {"temperature": 0.5})),
        ["objective.options.variant=ratio", "objective.options.temperature=0.1"],
    )
    assert recipe.objective.options == {"variant": "ratio", "temperature": 0.1}
    without = override(recipe, ["objective.options.variant=none"])
    assert without.objective.options == {"temperature": 0.1}


def test_the_last_override_wins_and_the_recipe_is_not_changed():
    recipe = Recipe()
    changed = override(recipe, ["training.epochs=3", "training.epochs=4"])
    assert (recipe.training.epochs, changed.training.epochs) == (20, 4)
    assert recipe == Recipe()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("training.epoch=3", "'training.epoch'\n.*did you mean epochs"),
        ("trainin.epochs=3", "'trainin.epochs'\n.*did you mean training"),
        ("epochs=3", "unknown key 'epochs'"),
        ("training=3", "unknown key 'training'"),
        ("training.epochs.more=3", "names no single value"),
        ("objective.options=3", r"names no single value\n.*options\.NAME=VALUE"),
        ("training.epochs", "sets nothing\n.*training.epochs=3"),
        ("training.epochs=three", "training.epochs = 'three'.*\n.*a whole number"),
        ("training.epochs=2.5", "training.epochs = 2.5.*\n.*a whole number"),
        ("training.epochs=none", "training.epochs = None.*\n.*a whole number"),
        ("training.channels_last=1", "channels_last = 1.*\n.*true or false"),
        ("optimiser.schedule=cosin", "= 'cosin'\n.*did you mean cosine"),
        ("optimiser.learning_rate=inf", "learning_rate = inf.*\n.*finite"),
        ("training.epochs=0", "training.epochs = 0.*\n.*at least 1"),
    ],
)
def test_a_wrong_override_is_refused_by_name(word, message):
    with pytest.raises(UsageError, match=message):
        override(Recipe(), [word])


def test_a_difference_names_each_changed_key_once():
    assert difference(FULL, FULL) == ()
    changed = override(FULL, ["data.limit=none", "objective.options.average=true"])
    assert difference(FULL, changed) == (
        "data.limit: 500 -> none",
        "objective.options.average: false -> true",
    )


def test_where_the_images_lie_is_no_difference():
    moved = override(Recipe(), ["data.source=/elsewhere", "data.split=train"])
    assert difference(Recipe(), moved) == ()
    assert moved.fingerprint == Recipe().fingerprint


def test_the_fingerprint_tells_recipes_apart():
    words = ["training.seed=1", "data.bits=1", "objective.options.temperature=0.2"]
    prints = {override(Recipe(), [word]).fingerprint for word in words}
    assert len(prints | {Recipe().fingerprint}) == 4


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().training.epochs = 3


def test_a_recipe_of_a_later_version_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "later.toml"
    path.write_text('schema_version = "9.0"\n[training]\nspin = 2\n')
    with pytest.raises(UsageError, match="later version, 9.0(?s:.*)pip install --upg"):
        Recipe.load(path)


def test_a_recipe_of_an_earlier_version_is_read():
    plain = {"schema_version": "1.0", "training": {"epochs": 3}}
    assert Recipe.from_dict(plain).training.epochs == 3


@pytest.mark.parametrize("version", ["", "one", 1.5, [1], "1..2"])
def test_a_version_that_is_none_is_refused(version):
    plain = {"schema_version": version}
    if version == 1.5:
        with pytest.raises(UsageError, match="later version"):
            Recipe.from_dict(plain)
        return
    with pytest.raises(UsageError, match="schema_version"):
        Recipe.from_dict(plain)


def test_groups_and_processes_do_not_share_a_normalisation():
    words = ["training.batch_norm=global", "training.bn_splits=4"]
    with pytest.raises(UsageError, match="bn_splits = 4(?s:.*)one group"):
        override(Recipe(), words)
