import pytest
import torch

from repscope._checking import ResourceError, UsageError
from repscope.models.devices import device_of


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu")])
def test_a_device_that_is_there_is_returned(name):
    assert device_of(name) == torch.device("cpu")


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "meta", torch.device("meta")])
def test_what_cannot_hold_numbers_is_no_device(name):
    with pytest.raises(UsageError, match=f"device '{name}'") as error:
        device_of(name)
    assert error.value.expected == "auto, cpu, cuda, cuda:0, cuda:1, ..."


def test_a_device_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="device 'cuda': torch finds no GPU here"):
        device_of("cuda")

    def empty(*_shape, device):
        raise RuntimeError(f"CUDA error: invalid device ordinal {device}\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(ResourceError, match="'cuda:9': torch cannot use it") as error:
        device_of("cuda:9")
    assert error.value.found == "CUDA error: invalid device ordinal cuda:9"
