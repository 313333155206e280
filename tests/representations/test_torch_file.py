import argparse
import sys
import zipfile

import numpy as np
import pytest

from repscope._checking import InputError, MissingExtraError
from repscope.representations.store import open_store

torch = pytest.importorskip("torch")

VALUES = torch.arange(21, dtype=torch.float32).reshape(7, 3) / 8


def save(folder, loaded, name="emb.pt"):
    torch.save(loaded, folder / name)
    return folder / name


def read(path, **options):
    return np.concatenate(list(open_store(path, **options).blocks(3)))


@pytest.mark.parametrize(
    "loaded",
    [
        VALUES,
        VALUES.T.contiguous().T,
        torch.nn.Parameter(VALUES),
        {"emb": VALUES, "label": torch.arange(7)},
        (VALUES, torch.arange(7)),
        [VALUES],
        VALUES.bfloat16(),
    ],
)
def test_tensors_are_read(loaded, tmp_path):
    values = read(save(tmp_path, loaded))
    np.testing.assert_array_equal(values, VALUES.numpy())
    assert values.dtype == np.float32 and values.flags.c_contiguous


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float16, "float16"), (torch.int64, "int64"), (torch.bool, "uint8")],
)
def test_the_type_is_kept(dtype, expected, tmp_path):
    store = open_store(save(tmp_path, VALUES.to(dtype)))
    assert store.dtype == expected == str(next(store.blocks(9)).dtype)


def test_vectors_and_lists_beside_the_features_are_columns(tmp_path):
    loaded = {
        "emb": VALUES,
        "label": torch.arange(7),
        "word": list("abcdefg"),
        "short": torch.arange(3),
        "mixed": [1, "a"],
        "large": [2**70] * 7,
        "complex": torch.zeros(7, dtype=torch.complex64),
    }
    store = open_store(save(tmp_path, loaded))
    assert store.column_names == ("label", "word")
    assert store.column("word").tolist() == list("abcdefg")
    np.testing.assert_array_equal(store.column("label"), np.arange(7))
    with pytest.raises(InputError, match="`short`: one value per row of features"):
        store.column("short")
    with pytest.raises(InputError, match="emb.pt: no column `lable`") as error:
        store.column("lable")
    assert error.value.fix == "did you mean label?"


def test_several_matrices_must_be_asked_for_by_name(tmp_path):
    path = save(tmp_path, {"emb": VALUES, "proj": VALUES[:, :2]})
    with pytest.raises(InputError, match="emb.pt: 2 arrays could be the feat") as error:
        open_store(path)
    assert "`emb` (7 x 3 float32), `proj` (7 x 2 float32)" in error.value.found
    assert open_store(path, column="proj").d == 2
    with pytest.raises(InputError, match="emb.pt: no array `emd`") as error:
        open_store(path, column="emd")
    assert error.value.fix == "did you mean emb?"


@pytest.mark.parametrize(
    "loaded",
    [
        torch.nn.Linear(3, 4).state_dict(),
        {"model": torch.nn.Linear(3, 4).state_dict(), "epoch": 3},
        {"state_dict": {}, "optimizer": {}},
        {"args": argparse.Namespace(lr=1), "w": [torch.ones(1) * k for k in range(20)]},
    ],
)
def test_a_checkpoint_is_recognised(loaded, tmp_path):
    path = save(tmp_path, loaded, "net.pth")
    with pytest.raises(InputError, match="net.pth: is a checkpoint, not features") as e:
        open_store(path)
    assert "features come from running the encoder over images" in e.value.fix
    assert e.value.exit_code == 3


def test_a_torchscript_model_is_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/constants.pkl", b"")
    with pytest.raises(InputError, match="is a TorchScript model, not features"):
        open_store(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (3, "holds a int, not features"),
        (VALUES.to_sparse(), "holds a Tensor, not features"),
        ({"emb": VALUES.to_sparse()}, "no two-dimensional array of numbers"),
        (VALUES[0], "one row of features per sample is needed"),
        (VALUES[:0], "there is nothing to measure"),
        (VALUES.to(torch.complex64), "holds values of torch.complex64, not real"),
        (VALUES.to(torch.float8_e5m2), "holds values of torch.float8_e5m2, not real"),
        (torch.zeros(1, 3).expand(10**8, 3), "tensor `` of 100,000,000 x 3 float32"),
        ({"args": argparse.Namespace(lr=1)}, "holds Python objects besides tensors"),
    ],
)
def test_other_contents_are_refused(loaded, message, tmp_path):
    with pytest.raises(InputError, match=f"^emb.pt: .*{message}"):
        open_store(save(tmp_path, loaded))


def test_a_file_of_before_version_1_6_is_refused(tmp_path):
    torch.save(VALUES, tmp_path / "emb.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="before version 1.6, a bare pickle"):
        open_store(tmp_path / "emb.pt")


def test_torchs_own_advice_never_reaches_the_user(tmp_path):
    path = save(tmp_path, {"args": argparse.Namespace(lr=1)})
    with pytest.raises(InputError) as error:
        open_store(path)
    assert "weights_only" not in str(error.value)
    assert error.value.__suppress_context__ and error.value.__cause__ is None


def test_a_flipped_bit_is_found_by_its_checksum(tmp_path):
    path = save(tmp_path, VALUES)
    content = bytearray(path.read_bytes())
    content[content.index(VALUES.numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="the checksum of emb/data/0 is wrong"):
        open_store(path)


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, VALUES)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="emb.pt: torch is needed") as error:
        open_store(path)
    assert error.value.fix == 'pip install "repscope[train]"'


def test_an_unsafe_torch_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path, VALUES)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(
        MissingExtraError, match="torch 2.9.1.cpu cannot read it safely"
    ):
        open_store(path)
