"""Fingerprints of weights, and drawing them anew."""

import torch
from torch import nn

from repscope.models.weights import reset_weights, weights_fingerprint


def test_the_fingerprint_is_of_names_types_shapes_and_values():
    state = {"a": torch.ones(2, 3), "b": torch.tensor(4)}
    variants = [
        {"a": torch.ones(2, 3), "c": torch.tensor(4)},
        {"a": torch.ones(3, 2), "b": torch.tensor(4)},
        {"a": torch.ones(2, 3).double(), "b": torch.tensor(4)},
        {"a": torch.ones(2, 3), "b": torch.tensor(5)},
        {"a": torch.ones(2, 3)},
    ]
    prints = [weights_fingerprint(one) for one in [state, *variants]]
    assert len(set(prints)) == len(prints)


def test_order_and_layout_do_not_change_the_fingerprint():
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    last = values.to(memory_format=torch.channels_last)
    assert weights_fingerprint({"a": values, "b": values}) == weights_fingerprint(
        {"b": last, "a": last}
    )


def test_types_that_numpy_lacks_have_fingerprints():
    state = {"a": torch.ones(2, dtype=torch.bfloat16), "extra": {"version": 1}}
    assert weights_fingerprint(state).startswith("sha256:")


def test_what_a_module_sets_in_its_parts_comes_last():
    # torch's attention sets the bias of its last layer to 0, the layer itself does not
    module = nn.MultiheadAttention(4, 2)
    nn.init.ones_(module.out_proj.bias)
    with torch.random.fork_rng(devices=[]):
        reset_weights(module, "attention")
    assert module.out_proj.bias.abs().max() == 0
