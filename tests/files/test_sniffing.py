import pickle
import zipfile

import numpy as np
import pytest

from repscope._checking import InputError
from repscope.files.sniffing import (
    Kind,
    check_readable,
    kind_of_head,
    refuse_weights,
    sniff,
)
from repscope.representations.store import open_store

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PICKLE_PROTOCOL_0 = pickle.dumps({"a": [1, 2]}, protocol=0)

HEADS = [
    (b"", Kind.EMPTY),
    (LFS, Kind.LFS_POINTER),
    (b"/annex/objects/SHA256E-s1--ab.npy\n", Kind.ANNEX_POINTER),
    (b"<!DOCTYPE html><html><body>404</body>", Kind.HTML),
    (b"\n\n  <HTML>", Kind.HTML),
    (b'<?xml version="1.0"?>', Kind.XML),
    (b"f0,f1\n1,2\n", Kind.TEXT),
    (b"\xef\xbb\xbff0,f1\n1,2\n", Kind.TEXT),
    (b'{"a": 1}', Kind.JSON),
    (b" [1, 2]", Kind.JSON),
    (b"[[1, 2]]\n", Kind.JSON),
    (b"[true]\n", Kind.JSON),
    (b"[[NaN]]\n", Kind.JSON),
    (b'["data"]\n', Kind.JSON),
    (b"[data]\nsize = 32\n", Kind.TOML),
    (b"\xef\xbb\xbf# a recipe\r\n\r\n[augmentation.crop]\r\n", Kind.TOML),
    (b"[[views]] # twice\n", Kind.TOML),
    (b"# a table\nf0,f1\n1,2\n", Kind.TEXT),
    ("f0,f1\n".encode("utf-16"), Kind.UTF16),
    (pickle.dumps([1], protocol=2), Kind.PICKLE),
    (pickle.dumps([1], protocol=5), Kind.PICKLE),
    (PICKLE_PROTOCOL_0, Kind.PICKLE),
    (b"cposix\nsystem\n(S'touch x'\ntR.", Kind.PICKLE),
    (b"cat\ndog\npig\n", Kind.TEXT),
    (
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
        Kind.LEGACY_TORCH,
    ),
    (b"\x89PNG\r\n\x1a\n", Kind.IMAGE),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", Kind.IMAGE),
    (b"RIFF\x24\0\0\0WEBPVP8 ", Kind.IMAGE),
    (b"BM\x36\0\x01\0\0\0\0\0\x36\0\0\0", Kind.IMAGE),
    (b"BMI,age\n1,2\n", Kind.TEXT),
    (b"%PDF-1.7", Kind.PDF),
    (b"\x89HDF\r\n\x1a\n", Kind.HDF5),
    (b"ARROW1\0\0", Kind.ARROW),
    (b"\0\0\x08\x03\0\0\x27\x10", Kind.IDX),
    (b"\x1f\x8b\x08", Kind.COMPRESSED),
    (b"\x93NUMPY\1\0", Kind.NPY),
    (b"PAR1", Kind.PARQUET),
    (b'\x08\0\0\0\0\0\0\0{"a":{}}', Kind.SAFETENSORS),
    (bytes(range(256)), Kind.UNKNOWN),
]


@pytest.mark.parametrize(("head", "kind"), HEADS)
def test_the_first_bytes_tell_the_kind(head, kind):
    assert kind_of_head(head) is kind


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (["emb.npy", "label.npy"], Kind.NPZ),
        ([], Kind.NPZ),
        (["archive/data.pkl", "archive/data/0", "archive/version"], Kind.TORCH),
        (["m/data.pkl", "m/constants.pkl", "m/code/m.py"], Kind.TORCHSCRIPT),
        (["set/a.JPEG", "set/b.JPEG"], Kind.IMAGE_ARCHIVE),
        (["xl/workbook.xml"], Kind.EXCEL),
        (["notes.md"], Kind.ARCHIVE),
    ],
)
def test_the_members_tell_the_kind_of_an_archive(members, kind, tmp_path):
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    assert sniff(tmp_path / "file.npz") is kind


@pytest.mark.parametrize(
    ("name", "content", "message", "fix"),
    [
        ("emb.npy", LFS, "emb.npy: is a Git-LFS pointer, not features", "git lfs pull"),
        ("emb.npy", b"<html>404", "emb.npy: is an HTML page, not features", "download"),
        ("emb.npy", b"", "emb.npy: is an empty file, not features", "write or copy"),
        ("emb.npy", b"1,2\n3,4\n", "emb.npy: is a text file, not a NumPy arr", ".csv"),
        ("emb.parquet", b"a,b\n", "is a text file, not a Parquet table", ".csv"),
        ("emb.npy", b"\0\1\2\3", "emb.npy: is of no known format, not a Num", "write"),
        ("emb.bin", b"\0\1\2\3", "bin: is of no known format, not features", "np.sa"),
        ("emb.pkl", pickle.dumps(1), "emb.pkl: is a pickle, not features", "never op"),
        ("emb.joblib", b"\x78\x9c\0\1", "emb.joblib: is a pickle, not feat", "np.save"),
        ("emb.npy", pickle.dumps(1), "emb.npy: is a pickle, not features", "np.save("),
        ("cat.png", b"\x89PNG\r\n", "cat.png: is an image, not features", "encoder"),
        ("emb.npy.gz", b"\x1f\x8b\x08", "is a compressed file, not features", "gunzip"),
        ("emb.json", b"[[1, 2]]", "emb.json: is a JSON file, not features", "np.save("),
        ("emb.csv", "f0\n".encode("utf-16"), "emb.csv: is UTF-16 text", "as UTF-8"),
        ("emb.npz", b"PK\3\4 cut", "emb.npz: damaged .an incomplete zip", "copy, down"),
    ],
)  # fmt: skip
def test_what_is_no_features_is_named_with_the_way_on(
    name, content, message, fix, tmp_path
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        open_store(tmp_path / name)
    assert fix in error.value.fix
    assert error.value.exit_code == 3


def test_content_decides_not_the_name(tmp_path):
    np.save(tmp_path / "emb.npy", np.ones((3, 2)))
    (tmp_path / "emb.npy").rename(tmp_path / "emb.dat")
    assert open_store(tmp_path / "emb.dat").n == 3


def test_torch_files_are_no_labels(tmp_path):
    with pytest.raises(InputError, match="is a torch file, not labels"):
        check_readable(tmp_path / "y.pt", Kind.TORCH, "labels")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"conv1.weight": 0, "bn.bias": 0}, "conv1.weight"),
        ({"weight": 0, "bias": 0}, "weight"),
        ({"state_dict": {"a": 0}, "epoch": 3}, "state_dict"),
        ({"epoch": 3, "model": {"a": 0}}, "model"),
    ],
)
def test_a_networks_state_is_recognised(values, found):
    with pytest.raises(InputError, match="net.pt: is a checkpoint, not features") as e:
        refuse_weights("net.pt", values)
    assert e.value.found.startswith(f"`{found}`")
    assert "features come from running the encoder over images" in e.value.fix


@pytest.mark.parametrize("values", [{"emb": 0, "label": 0}, {"model": "resnet50"}])
def test_features_are_not_taken_for_a_networks_state(values):
    refuse_weights("emb.pt", values)
