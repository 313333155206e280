"""Bad input through the command line: what is said, word for word; exit codes."""

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repscope.cli import main
from repscope.records import RunRecord, Status, from_json

N, D = 60, 12
FEATURES = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
FORMATS = ".npy, .npz, .parquet, .csv, .safetensors, .pt or a folder of them"
TO_FEATURES = 'save the features as an (n, d) array: np.save("features.npy", features)'
FROM_IMAGES = (
    "features come from running the encoder over images: repscope diagnose ENCODER "
    f"IMAGES, or repscope embed ENCODER IMAGES; in Python, {TO_FEATURES}"
)


class Canary:
    """Leaves a file behind when unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("canary"),)


def npy_header(shape):
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, described)
    return written.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder with sound features, and no terminal in the way."""
    monkeypatch.chdir(tmp_path)
    np.save("ok.npy", FEATURES)
    return tmp_path


def refused(words, capsys):
    """Return the exit code and what was said; nothing may have been written."""
    code = main([*words, "-o", "out"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not Path("out").exists()
    assert not Path("canary").exists()
    lines = captured.err.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith("error: "))
    return code, "".join(lines[start:])


def write_html():
    Path("emb.npy").write_text("<!DOCTYPE html><html><body>404</body></html>")


def write_lfs_pointer():
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"
    Path("emb.npy").write_text(pointer)


def write_truncated():
    Path("emb.npy").write_bytes(Path("ok.npy").read_bytes()[:-100])


def write_lying():
    Path("emb.npy").write_bytes(npy_header((10**10, 10)) + bytes(64))


def write_empty():
    Path("emb.npy").write_bytes(b"")


def write_bomb():
    with zipfile.ZipFile("emb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("emb.npy", npy_header((2**23, 4)) + bytes(2**27))


def write_pickle_in_npz():
    np.savez("emb.npz", emb=np.array([Canary()] * N, dtype=object))


def write_pickle():
    Path("emb.pkl").write_bytes(pickle.dumps(Canary()))


def write_images():
    Path("pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(f"pictures/{number}.png")


def write_weights():
    weight = np.zeros((4, 3), np.float32)
    header = b'{"conv1.weight":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]}}'
    content = struct.pack("<Q", len(header)) + header + weight.tobytes()
    Path("resnet.safetensors").write_bytes(content)


def write_nan():
    features = FEATURES.copy()
    features[[7, 9], 2] = np.nan, np.inf
    np.save("emb.npy", features)


def write_nothing():
    pass


@pytest.mark.parametrize(
    ("write", "name", "said"),
    [
        (
            write_nothing,
            "okk.npy",
            "okk.npy: no such file\n  fix: did you mean ok.npy?",
        ),
        (
            write_html,
            "emb.npy",
            f"emb.npy: is an HTML page, not features\n  expected: {FORMATS}\n"
            "  fix: download the file itself: the server sent a page, perhaps an error",
        ),
        (
            write_lfs_pointer,
            "emb.npy",
            f"emb.npy: is a Git-LFS pointer, not features\n  expected: {FORMATS}\n"
            "  fix: git lfs pull",
        ),
        (
            write_truncated,
            "emb.npy",
            "emb.npy: truncated: header promises 60 x 12 float32 = 2,880 bytes, file "
            "has 2,780\n  fix: copy, download or write it again",
        ),
        (
            write_lying,
            "emb.npy",
            "emb.npy: truncated: header promises 10,000,000,000 x 10 float32 = "
            "400,000,000,000 bytes, file has 64\n  fix: copy, download or write it "
            "again",
        ),
        (
            write_empty,
            "emb.npy",
            f"emb.npy: is an empty file, not features\n  expected: {FORMATS}\n"
            "  fix: write or copy it again",
        ),
        (
            write_pickle,
            "emb.pkl",
            f"emb.pkl: is a pickle, not features\n  expected: {FORMATS}\n"
            "  fix: a pickle can run any program and is never opened; load it where "
            f"you trust it and {TO_FEATURES}",
        ),
        (
            write_pickle_in_npz,
            "emb.npz",
            "emb.npz: no two-dimensional array of numbers\n"
            "  found: `emb` (60 Python objects (a pickle))\n"
            f"  fix: {TO_FEATURES}",
        ),
        (
            write_images,
            "pictures",
            "pictures: a folder of images: features are needed\n"
            "  found: images such as 0.png; expected: a file of features, or a folder "
            "of them\n  fix: give an encoder first: repscope diagnose ENCODER "
            "pictures",
        ),
        (
            write_weights,
            "resnet.safetensors",
            "resnet.safetensors: is a checkpoint, not features\n"
            "  found: `conv1.weight` among 1 entries; expected: features, an (n, d) "
            f"array\n  fix: {FROM_IMAGES}",
        ),
        (
            write_nan,
            "emb.npy",
            "emb.npy: 2 rows contain NaN or infinity (first: row 7)\n"
            "  fix: --drop-nonfinite (drop_nonfinite=True in Python) drops, counts "
            "them",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_is_no_features(folder, capsys, write, name, said):
    write()
    assert refused([name], capsys) == (3, f"error: {said}\n")


def test_a_zip_bomb(folder, capsys):
    write_bomb()
    code, said = refused(["emb.npz"], capsys)
    assert code == 3
    assert said.startswith("error: emb.npz: unpacks to 134,217,856 bytes from ")
    assert "as a zip bomb does\n  expected: at most 67,108,864 bytes\n" in said


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            {"y": np.arange(50)},
            "--labels y.npz:y: one entry per row of ok.npy is needed\n"
            "  found: 50 entries; expected: 60\n"
            "  fix: pass --labels y.npz:y in the order of the rows, one for each",
        ),
        (
            {"fine": np.arange(N) % 3, "coarse": np.arange(N) % 2},
            "label levels are not nested: class '0' of 'fine' lies in two classes of "
            "'coarse'\n  found: '0' and '1'; expected: each fine class in one coarse "
            "class, levels from fine to coarse\n  fix: change the order of the "
            "levels, or pass unrelated factors as attributes",
        ),
        (
            {"y": np.where(np.arange(N) == 5, np.nan, 1.0)},
            "labels 'y': row 5 is no class\n  found: nan; expected: whole numbers or "
            "words, none missing\n  fix: drop the rows without a label, or pass a "
            "number as an attribute",
        ),
    ],
    ids=["too short", "not nested", "missing"],
)
def test_labels_that_do_not_fit(folder, capsys, labels, said):
    np.savez("y.npz", **labels)
    assert refused(["ok.npy", "--labels", "y.npz"], capsys) == (3, f"error: {said}\n")


def test_a_column_that_is_not_there(folder, capsys):
    np.savez("table.npz", emb=FEATURES, fine=np.arange(N) % 3)
    code, said = refused(["table.npz", "--labels", "fin"], capsys)
    assert (code, said) == (
        3,
        "error: table.npz: no column `fin`\n  fix: did you mean fine?\n",
    )


def test_an_address_is_not_fetched(folder, capsys):
    assert refused(["https://example.org/emb.npy"], capsys) == (
        2,
        "error: https://example.org/emb.npy is an address, not a file\n"
        "  expected: a file or folder on this machine; repscope uses no network\n"
        "  fix: download it first, then pass the file\n",
    )


def test_an_extra_that_is_missing_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    Path("emb.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    code, said = refused(["emb.parquet"], capsys)
    assert code == 2
    assert said.endswith('  fix: pip install "repscope[parquet]"\n')


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (FEATURES, np.zeros(N, int)),
        (FEATURES, np.arange(N)),
        (FEATURES[:5], np.arange(5) % 2),
        (FEATURES[:1], None),
        (np.ones((N, D), np.float32), np.arange(N) % 3),
    ],
    ids=["one class", "a class each", "n below d", "n is 1", "constant"],
)
def test_data_that_decide_little_are_measured_and_said_to(folder, features, labels):
    np.save("emb.npy", features)
    words = ["emb.npy", "-q", "-o", "out"]
    if labels is not None:
        np.save("y.npy", labels)
        words += ["--labels", "y.npy"]
    assert main(words) == 0
    record = from_json(RunRecord, Path("out/results.json").read_text())  # strict
    undecided = [one for one in record.findings if one.status is Status.UNDECIDED]
    assert undecided
    assert all(one.explanation for one in undecided)
    assert all(one.reason for one in record.measurements if one.value is None)
