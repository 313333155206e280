import argparse
import io
import json
import os
import pickle
import sys
import zipfile

import pytest
import safetensors.torch
import torch

from repscope._checking import InputError, UsageError
from repscope.models.state_dicts import (
    WRAPPERS,
    metadata_of,
    read_state,
    read_state_file,
)

WEIGHTS = {
    "conv.weight": torch.arange(12.0).reshape(4, 3),
    "bn.num_batches_tracked": torch.tensor(7),
}
OTHER = {name: tensor + 1 for name, tensor in WEIGHTS.items()}


class Payload:
    """Unpickling it would create the canary file."""

    def __init__(self, canary):
        self.command = f"touch {canary}"

    def __reduce__(self):
        return os.system, (self.command,)


def save(folder, loaded, name="net.pth"):
    torch.save(loaded, folder / name)
    return folder / name


def same(found, expected=WEIGHTS):
    return set(found) == set(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ckpt", "net.pth.tar"])
def test_torch_files_are_read_whatever_their_ending(name, tmp_path):
    assert same(read_state(save(tmp_path, WEIGHTS, name)))


@pytest.mark.parametrize(
    ("loaded", "entry"),
    [
        (WEIGHTS, ""),
        # PyTorch Lightning
        (
            {"state_dict": WEIGHTS, "epoch": 3, "optimizer_states": [{"state": {}}]},
            "state_dict",
        ),
        # a tensor beside the weights does not hide them
        ({"model": WEIGHTS, "epoch": torch.tensor(3)}, "model"),
        ({"model_state_dict": WEIGHTS, "optimizer_state_dict": {}}, "model_state_dict"),
        # facebookresearch/dino: the teacher is what is evaluated
        ({"student": OTHER, "teacher": WEIGHTS, "optimizer": {"state": {}}}, "teacher"),
        # facebookresearch/ijepa
        ({"encoder": OTHER, "target_encoder": WEIGHTS}, "target_encoder"),
        # facebookresearch/vissl
        (
            {
                "classy_state_dict": {
                    "base_model": {"model": {"trunk": WEIGHTS, "heads": {}}},
                    "optim": {"lr": torch.tensor(1.0)},
                }
            },
            "classy_state_dict.base_model.model.trunk",
        ),
        ({"encoder": WEIGHTS, "args": {"lr": 0.1}}, "encoder"),
        ({"resnet": WEIGHTS, "head": OTHER}, "resnet"),
    ],
)
def test_weights_are_found_in_what_nests_them(loaded, entry, tmp_path):
    found = read_state_file(save(tmp_path, loaded))
    assert same(found.tensors) and found.entry == entry


def test_only_dense_tensors_are_weights(tmp_path):
    odd = {"sparse": torch.eye(3).to_sparse(), "list": [1.0], 5: torch.ones(1)}
    assert same(read_state(save(tmp_path, WEIGHTS | odd)))


def test_safetensors_are_read_with_their_metadata(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(WEIGHTS, path, metadata={"format": "pt"})
    found = read_state_file(path)
    assert same(found.tensors) and found.metadata == {"format": "pt"}
    assert metadata_of(path) == {"format": "pt"}


def test_half_precision_is_kept(tmp_path):
    state = {"w": torch.ones(3, dtype=torch.bfloat16)}
    assert read_state(save(tmp_path, state))["w"].dtype == torch.bfloat16
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    assert read_state(tmp_path / "net.safetensors")["w"].dtype == torch.bfloat16


def damaged_safetensors(header, content):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


@pytest.mark.parametrize(
    "content",
    [
        damaged_safetensors(
            {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(15)
        ),
        damaged_safetensors(
            {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(17)
        ),
        damaged_safetensors(
            {
                "v": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                "w": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
            },
            bytes(24),
        ),
        damaged_safetensors(
            {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 16]}},
            bytes(16),
        ),
        damaged_safetensors(b"{not json}", bytes(16)),
        (10**7).to_bytes(8, "little") + b"{" + bytes(100),
    ],
    ids=["short", "long", "overlap", "lying", "no json", "header past the end"],
)
def test_damaged_safetensors_are_refused(content, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^net.safetensors: damaged"):
        read_state(path)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_truncated_torch_files_are_refused(cut, tmp_path):
    path = save(tmp_path, {"w": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(InputError, match=r"^net.pth: "):
        read_state(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = save(tmp_path, WEIGHTS)
    content = bytearray(path.read_bytes())
    content[content.index(WEIGHTS["conv.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="the checksum of net/data/0 is wrong"):
        read_state(path)


def torch_zip(payload):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"state_dict": payload}, 2))
        archive.writestr("a/version", b"3\n")
    return file.getvalue()


ATTACKS = {
    "zip.pt": torch_zip,
    "zip.pth.tar": torch_zip,
    "bare.pth": lambda p: pickle.dumps(p, 2),
    "text.pt": lambda p: pickle.dumps(p, 0),
    "legacy.pt": lambda p: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(p, 2),
    "named.safetensors": torch_zip,
    "net.pkl": pickle.dumps,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_malicious_pickle_is_refused_and_never_run(name, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(ATTACKS[name](Payload(canary)))
    with pytest.raises(InputError) as error:
        read_state(tmp_path / name)
    assert not canary.exists()
    assert str(error.value).startswith(f"{name}: ")
    assert "weights_only" not in str(error.value)
    pickle.loads(pickle.dumps(Payload(canary)))
    assert canary.exists()  # it would have run


def test_nothing_that_a_file_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "gadget.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"cgadget\nrun\n(tR.")
        archive.writestr("a/version", b"3\n")
    with pytest.raises(InputError, match="holds Python objects besides its 0 tensors"):
        read_state(tmp_path / "net.pt")
    assert "gadget" not in sys.modules


def test_a_checkpoint_with_the_options_of_its_program_is_refused_with_a_way_out(
    tmp_path,
):
    # as facebookresearch/dino writes its checkpoints
    path = save(tmp_path, {"teacher": WEIGHTS, "args": argparse.Namespace(lr=1)})
    with pytest.raises(InputError, match="holds Python objects besides its 2") as error:
        read_state(path)
    assert "safetensors.torch.save_file" in error.value.fix
    assert "weights_only" not in str(error.value)
    assert error.value.exit_code == 3


def test_the_old_format_is_refused_and_the_advice_makes_it_readable(tmp_path):
    path = tmp_path / "old.pth.tar"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="before version 1.6, a bare pickle") as error:
        read_state(path)
    advice = error.value.fix
    assert advice.startswith("write it anew: python -c ")
    program = advice.split('"')[1]
    exec(program.replace("weights.pth", str(tmp_path / "weights.pth")))
    assert same(read_state(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ({"optimizer": {"state": {0: torch.ones(3)}}, "epoch": 3}, "no weights of an"),
        ({"state_dict": {}, "epoch": 3}, "no weights of an encoder in it"),
        ({}, "no weights of an encoder in it"),
        (torch.ones(3), "holds a Tensor, no weights by name"),
        ([WEIGHTS], "holds a list, no weights by name"),
    ],
)
def test_files_without_weights_are_refused(loaded, message, tmp_path):
    with pytest.raises(InputError, match=f"^net.pth: {message}"):
        read_state(save(tmp_path, loaded))


def test_the_entries_of_a_wrong_checkpoint_are_named(tmp_path):
    path = save(tmp_path, {"optimizer": {}, "scheduler": {}, "epoch": 3})
    with pytest.raises(InputError) as error:
        read_state(path)
    assert error.value.found == "`optimizer`, `scheduler`, `epoch`"


@pytest.mark.parametrize(
    ("name", "content", "message", "fix"),
    [
        ("n.pt", b"", "is an empty file", "write or copy it again"),
        ("n.pt", b"<!doctype html><html>", "is an HTML page", "download the file"),
        ("n.pt", b"version https://git-lfs.github.com", "is a Git-LFS", "git lfs pull"),
        ("n.npy", b"\x93NUMPY\x01\x00", "is a NumPy array", "the file with the enc"),
        ("n.pt", b"\x1f\x8b\x08", "is a compressed file", "the file with the encoder"),
    ],
)
def test_files_that_are_no_checkpoints_are_named(name, content, message, fix, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{name}: {message}") as error:
        read_state(tmp_path / name)
    assert fix in error.value.fix


def test_a_torchscript_model_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/constants.pkl", b"")
    with pytest.raises(InputError, match="is a TorchScript model") as error:
        read_state(tmp_path / "net.pt")
    assert "model.state_dict()" in error.value.fix


def test_folders_absent_files_and_addresses_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_state(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_state(tmp_path / "absent.pt")
    with pytest.raises(UsageError, match="is an address, not a file"):
        read_state("https://example.org/net.pt")


def test_dictionaries_without_end_come_to_an_end(tmp_path):
    loaded = WEIGHTS
    for _ in range(30):
        loaded = {"model": loaded}
    with pytest.raises(InputError, match="no weights of an encoder in it"):
        read_state(save(tmp_path, loaded))


def test_a_dictionary_that_a_file_repeats_is_looked_at_once(tmp_path):
    loaded = {"epoch": 1}
    for _ in range(7):  # 19 ways at each of 7 levels: without end if all were gone
        loaded = dict.fromkeys(WRAPPERS, loaded)
    with pytest.raises(InputError, match="no weights of an encoder in it"):
        read_state(save(tmp_path, loaded))
