"""Building an objective from the words of a recipe."""

import dataclasses
import re
import typing

import pytest
import torch

from objectives.whole_batches import whole_batch
from repscope._checking import UsageError
from repscope.objectives.catalogue import OBJECTIVES, build_objective
from repscope.objectives.contrastive import NTXent
from repscope.objectives.redundancy import BarlowTwins, VICReg

SAID = ("Args:", "Raises:", "Source:", "Misleads", "Example:")


def test_names_build_their_classes_with_defaults():
    assert build_objective("nt_xent", {}) == NTXent()
    assert build_objective("vicreg", {}) == VICReg()
    assert build_objective("barlow_twins", {}) == BarlowTwins()


def test_options_replace_defaults_and_whole_numbers_do_for_numbers():
    built = build_objective("nt_xent", {"temperature": 1, "variant": "decoupled"})
    assert built == NTXent(temperature=1.0, variant="decoupled")
    built = build_objective("barlow_twins", {"center": False})
    assert built == BarlowTwins(center=False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nt_xnet", {}, r"unknown objective 'nt_xnet'\n.*did you mean nt_xent\?"),
        ("vicreg", {"gama": 1.0}, r"option of vicreg 'gama'\n.*did you mean gamma\?"),
        ("nt_xent", {"variant": "ration"}, r"'ration'\n.*did you mean ratio\?"),
        ("nt_xent", {"variant": 3}, r"variant is 3\n.*standard, decoupled"),
        ("nt_xent", {"temperature": "0.1"}, r"temperature is '0.1'\n.*a number"),
        ("nt_xent", {"temperature": True}, r"temperature is True\n.*a number"),
        ("nt_xent", {"temperature": 0}, r"temperature is 0.0\n.*above 0"),
        ("barlow_twins", {"center": 1}, r"center is 1\n.*true or false"),
        ("vicreg", {"eps": [1]}, r"eps is \[1\]\n.*a number"),
    ],
)
def test_a_mistake_is_named_with_its_mending(name, options, message):
    with pytest.raises(UsageError, match=message):
        build_objective(name, options)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_states_what_a_reader_needs(name):
    objective = OBJECTIVES[name]
    text = objective.__doc__
    assert all(word in text for word in SAID)
    assert re.search(r"(As in|[Dd]iffers\s+from) the", text)
    assert all(
        f"        {field.name}:" in text for field in dataclasses.fields(objective)
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_a_value(name):
    objective = build_objective(name, {})
    assert objective == build_objective(name, {}) and hash(objective) is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(objective, dataclasses.fields(objective)[0].name, 1.0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_choice_of_an_option_can_be_built_and_run(name):
    fields = {one.name: one.type for one in dataclasses.fields(OBJECTIVES[name])}
    choices = [
        {option: choice}
        for option, kind in fields.items()
        for choice in (typing.get_args(kind) or ((True, False) if kind is bool else ()))
    ]
    for options in [{}, *choices]:
        objective = build_objective(name, options)
        assert torch.isfinite(objective(whole_batch(objective)).total), options
