"""Files made to do harm: nothing of them runs, and nothing of them fills the memory."""

import io
import os
import pickle
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from repscope._checking import InputError
from repscope.representations.store import open_store, read_columns


class Payload:
    """Unpickling it would create the canary file."""

    def __init__(self, canary):
        self.command = f"touch {canary}"

    def __reduce__(self):
        return os.system, (self.command,)


def object_npy(payload):
    file = io.BytesIO()
    np.save(file, np.array([[payload, payload]], dtype=object), allow_pickle=True)
    return file.getvalue()


def zip_of(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def torch_zip(payload):
    return zip_of({"a/data.pkl": pickle.dumps(payload, 2), "a/version": b"3\n"})


ATTACKS = {
    "emb.pkl": lambda p: pickle.dumps(p),
    "emb.joblib": lambda p: pickle.dumps(p),
    "emb.npy": lambda p: pickle.dumps(p, 2),
    "text.npy": lambda p: pickle.dumps(p, 0),
    "object.npy": object_npy,
    "emb.npz": lambda p: zip_of({"emb.npy": object_npy(p)}),
    "raw.npz": lambda p: zip_of({"emb.npy": pickle.dumps(p)}),
    "emb.pt": torch_zip,
    "named.npy": torch_zip,
    "bare.pt": lambda p: pickle.dumps(p, 2),
    "legacy.pt": lambda p: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(p, 2),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("verb", [open_store, read_columns])
def test_a_malicious_pickle_is_refused_and_never_run(verb, name, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / name
    path.write_bytes(ATTACKS[name](Payload(canary)))
    if "pt" in name:
        pytest.importorskip("torch")
    with pytest.raises(InputError) as error:
        store = verb(path)
        list(store.blocks(10))
    assert not canary.exists()
    assert str(error.value).startswith(f"{name}: ")
    assert "weights_only" not in str(error.value)


def test_the_payload_would_run_if_it_were_loaded(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Payload(canary)))
    assert canary.exists()


def test_a_malicious_label_column_beside_features_is_never_loaded(tmp_path):
    canary = tmp_path / "canary"
    np.savez(
        tmp_path / "emb.npz",
        emb=np.ones((1, 2)),
        label=np.array([Payload(canary)], dtype=object),
    )
    store = open_store(tmp_path / "emb.npz")
    assert len(list(store.blocks(1))) == 1 and store.column_names == ()
    with pytest.raises(InputError, match=r"holds Python objects \(a pickle\)"):
        store.column("label")
    assert not canary.exists()


def test_opening_imports_nothing_that_a_file_names(tmp_path):
    (tmp_path / "gadget.py").write_text("raise SystemExit('imported')")
    payload = b"cgadget\nrun\n(tR."
    (tmp_path / "emb.pt").write_bytes(
        zip_of({"a/data.pkl": payload, "a/version": b"3\n"})
    )
    pytest.importorskip("torch")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(InputError, match="holds Python objects besides tensors"):
            open_store(tmp_path / "emb.pt")
    finally:
        sys.path.remove(str(tmp_path))
    assert "gadget" not in sys.modules


def bomb(name):
    header = np.lib.format.header_data_from_array_1_0(np.ones((1, 1024), np.float32))
    header["shape"] = (17_000, 1024)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return zip_of({name: file.getvalue() + bytes(17_000 * 4096)}, zipfile.ZIP_DEFLATED)


def test_a_zip_bomb_is_refused_with_the_way_on(tmp_path):
    content = bomb("emb.npy")
    (tmp_path / "emb.npz").write_bytes(content)
    assert len(content) < 300_000
    with pytest.raises(InputError, match="emb.npz: unpacks to 69,632,") as error:
        open_store(tmp_path / "emb.npz")
    assert error.value.expected == "at most 67,108,864 bytes"
    assert error.value.fix == "if you trust it, unzip it and pass the .npy file inside"


def test_a_deflated_torch_bomb_is_refused_before_it_is_loaded(tmp_path):
    pytest.importorskip("torch")
    members = {"a/data.pkl": b"\x80\x02.", "a/data/0": bytes(70 * 2**20)}
    content = zip_of(members, zipfile.ZIP_DEFLATED)
    (tmp_path / "emb.pt").write_bytes(content)
    with pytest.raises(InputError, match="emb.pt: unpacks to 73,400,3"):
        open_store(tmp_path / "emb.pt")


def test_an_archive_of_very_many_members_is_refused(tmp_path):
    members = {f"{k}.npy": b"" for k in range(10_001)}
    (tmp_path / "emb.npz").write_bytes(zip_of(members))
    with pytest.raises(InputError, match="damaged .too many or repeated members"):
        open_store(tmp_path / "emb.npz")


def test_members_named_like_paths_are_not_extracted(tmp_path):
    file = io.BytesIO()
    np.save(file, np.ones((2, 2)))
    (tmp_path / "in").mkdir()
    content = zip_of({"../../escaped.npy": file.getvalue()})
    (tmp_path / "in" / "emb.npz").write_bytes(content)
    assert open_store(tmp_path / "in" / "emb.npz").n == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["emb.npz", "in"]


LYING = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 1), }".ljust(
        117
    )
    + b"\n"
    + b"\0" * 64
)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs RLIMIT_AS")
def test_a_lying_header_allocates_nothing(tmp_path):
    assert len(LYING) == 192
    (tmp_path / "emb.npy").write_bytes(LYING)
    script = """
import resource, sys
from repscope._checking import InputError
from repscope.representations.store import open_store
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
try:
    open_store(sys.argv[1])
except InputError as error:
    print(error.what)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "emb.npy")]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.strip() == (
        "emb.npy: truncated: header promises 10,000,000,000 x 1 float32 = "
        "40,000,000,000 bytes, file has 64"
    ), done.stderr
