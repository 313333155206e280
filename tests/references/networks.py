"""Networks in tests: their weights on disk, compared, and no network to fetch any."""

import socket

import safetensors.torch
import torch


def block_network(monkeypatch):
    """Let any attempt to reach a network fail; return the list that notes them."""
    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise OSError("the network is blocked")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return attempts


def save_weights(path, state):
    """Write tensors in the format of the name's ending; return the path as text."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def same_weights(module, other):
    """Return whether two modules hold equal tensors under equal names."""
    one, two = module.state_dict(), other.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
