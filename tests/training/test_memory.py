import re

import pytest
import torch

from repscope import _environment
from repscope._checking import EXIT_ENVIRONMENT, ResourceError
from repscope.training import memory
from repscope.training.memory import available_bytes, check_memory

CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Where the system says how much there is; none of the files is there yet."""
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "meminfo")
    limits = (tmp_path / "max", tmp_path / "limit")
    monkeypatch.setattr(memory, "LIMIT_FILES", limits)
    return tmp_path


def test_what_is_free_is_what_the_kernel_says(files):
    (files / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    3000 kB\n")
    assert available_bytes(CPU) == 3000 * 1024


def test_a_limit_on_the_process_counts_where_it_is_less(files):
    (files / "meminfo").write_text("MemAvailable:    3000 kB\n")
    (files / "max").write_text("max\n")
    assert available_bytes(CPU) == 3000 * 1024
    (files / "limit").write_text("4096\n")
    assert available_bytes(CPU) == 4096
    (files / "limit").write_text("9223372036854771712\n")
    assert available_bytes(CPU) == 3000 * 1024


@pytest.mark.parametrize("content", [None, "", "MemAvailable:\n"])
def test_a_system_that_does_not_say_has_all_its_memory(files, content, monkeypatch):
    if content is not None:
        (files / "meminfo").write_text(content)
    assert available_bytes(CPU) == _environment.memory_bytes()
    monkeypatch.setattr(_environment, "memory_bytes", lambda: None)
    assert available_bytes(CPU) is None
    check_memory(10**9, 2 * 3 * 4096**2, 4096, CPU)


def test_a_device_that_nothing_is_known_of_is_tried():
    assert available_bytes(torch.device("meta")) is None


def test_a_batch_that_does_not_fit_names_one_that_does(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**9)
    with pytest.raises(ResourceError, match="256 images of 1,024 x 1,024") as caught:
        check_memory(256, 2 * 3 * 1024**2, 1024, CPU)
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    [named] = re.findall(r"training\.batch_size=(\d+)", str(caught.value))
    # by hand: two views of 12.6 MB, three times over, and room for as much again
    assert int(named) == 4
    check_memory(int(named), 2 * 3 * 1024**2, 1024, CPU)


def test_images_of_which_no_batch_fits_are_too_large(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**9)
    with pytest.raises(ResourceError, match=r"\n.*fix: smaller images, such as"):
        check_memory(2, 2 * 3 * 4096**2, 4096, CPU)


def test_usual_batches_pass():
    check_memory(256, 2 * 3 * 32**2, 32, CPU)
