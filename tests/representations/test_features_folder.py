import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from representations.embedding_cases import (
    BROKEN,
    NAMES,
    PREPROCESS,
    N,
    Tiny,
    broken_set,
    contents,
    run,
)
from repscope._checking import InputError, ResourceError, UsageError
from repscope.data.imageset import ImageSet
from repscope.files import saving
from repscope.files.folder_lock import FolderLock
from repscope.representations import features_folder
from repscope.representations.embedding import open_features
from repscope.representations.store import open_store


def test_a_finished_folder_is_used_again(folder, caplog):
    before = contents(folder)
    module = Tiny()
    with caplog.at_level("INFO", logger="repscope"):
        again = run(folder, encoder=module)
    assert module.calls == [1]  # the widths
    assert "complete already, nothing is computed" in caplog.text
    assert contents(folder) == before
    np.testing.assert_array_equal(again.features(), run().features())


def ending():
    """Return a network that is interrupted after a hundred images."""
    module = Tiny()

    def interrupt(_module, _inputs):
        if sum(module.calls) > 100:
            raise KeyboardInterrupt

    module.register_forward_pre_hook(interrupt)
    return module


def test_a_run_goes_on_after_its_last_shard(tmp_path, caplog):
    folder = tmp_path / "features"
    with pytest.raises(KeyboardInterrupt):
        run(folder, encoder=ending())
    (folder / f".{NAMES[2]}.0123abcd.tmp").write_bytes(b"half")
    with pytest.raises(InputError, match="features: unfinished features") as error:
        open_features(folder)
    assert error.value.found == "2 of 4 shards"
    assert "run the same embed command again" in error.value.fix
    with pytest.raises(InputError, match="unfinished"):
        open_store(folder)
    module, told = Tiny(), []
    with caplog.at_level("INFO", logger="repscope"):
        run(folder, encoder=module, progress=lambda *counts: told.append(counts))
    assert "going on after 2 of 4 shards" in caplog.text
    assert sum(module.calls) == 1 + 70
    assert told[0] == (80 + 16, N)
    assert told[-1] == (N, N)
    run(tmp_path / "straight")
    assert contents(folder) == contents(tmp_path / "straight")


def test_an_unfinished_run_goes_on_even_where_it_may_overwrite(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "features", encoder=ending(), overwrite=True)
    module = Tiny()
    run(tmp_path / "features", encoder=module, overwrite=True)
    assert sum(module.calls) == 1 + 70


SCRIPT = """
import sys, time
import numpy as np
from representations import embedding_cases as cases
from repscope.representations import embedding_run
from repscope.representations.embed import embed

embedding_run.SHARD_ROWS = 40

class Tiny(cases.Tiny):
    def forward(self, images):
        time.sleep(0.05)
        print(len(images), flush=True)
        return super().forward(images)

embed(
    Tiny(), cases.broken_set(150, [41]), preprocess=cases.PREPROCESS,
    layers=["first", "output"], batch_size=16, out=sys.argv[1],
)
"""


@pytest.mark.parametrize(
    "batches",
    [
        5,
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(9, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_loses_at_most_a_shard(batches, tmp_path):
    folder = tmp_path / "features"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    for _ in range(batches + 1):  # one batch tells the widths
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = [name for name in NAMES if (folder / name).exists()]
    # Three batches make a shard, which is written before the next one's first batch.
    complete = (batches - 1) // 3
    assert kept[:complete] == NAMES[:complete]
    module = Tiny()
    run(folder, encoder=module)
    assert sum(module.calls) <= 1 + sum([40, 39, 40, 30][complete:])
    run(tmp_path / "straight")
    assert contents(folder) == contents(tmp_path / "straight")


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "failures"])
def test_a_damaged_shard_is_computed_again(damage, folder):
    before = contents(folder)
    path = folder / NAMES[1]
    if damage == "flip":
        data = bytearray(before[NAMES[1]])
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(before[NAMES[1]][:-1])
    elif damage == "delete":
        path.unlink()
    else:
        (folder / "failures.jsonl").unlink()
    module = Tiny()
    run(folder, encoder=module)
    assert sum(module.calls) == 1 + 39
    assert contents(folder) == before


def test_a_full_disk_leaves_earlier_shards(tmp_path, monkeypatch):
    folder, writes = tmp_path / "features", []

    def fsync(descriptor):
        writes.append(descriptor)
        if len(writes) == 8:  # the manifest, then a shard, failures, manifest each
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(saving.os, "fsync", fsync)
        with pytest.raises(ResourceError, match="no space left on the disk"):
            run(folder)
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
    module = Tiny()
    run(folder, encoder=module)
    assert sum(module.calls) == 1 + N - 1 - 40
    run(tmp_path / "straight")
    assert contents(folder) == contents(tmp_path / "straight")


def other_labels():
    images = broken_set(N, [BROKEN])
    return ImageSet.of(
        images.images,
        labels={"fine": np.arange(N) % 7},
        attributes={"colour": images.attributes[0]},
        ids=images.ids,
        name="noise",
    )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"encoder": Tiny(seed=1)}, "encoder: {'weights': 'sha256:"),
        ({"images": broken_set(N, [42])}, "images: {'fingerprint':"),
        ({"images": broken_set(N - 1, [41])}, "images: {'fingerprint':"),
        ({"images": other_labels()}, "images: {'fingerprint':"),
        ({"layers": ["first"]}, "layers: ['first', 'output'] there, ['first'] here"),
        ({"pool": "mean", "layers": ["output"]}, "layers: "),
        ({"thumbnails": False}, "thumbnail: [8, 8] there, None here"),
        (
            {"preprocess": type(PREPROCESS)(8, 9)},
            "preprocessing: {'resize': None, 'mean': [0.4, 0.5, 0.6],",
        ),
    ],
)
def test_other_features_are_not_mixed_in(options, found, folder):
    before = contents(folder)
    with pytest.raises(UsageError, match="features holds other features") as error:
        run(folder, **options)
    assert error.value.found.startswith(found)
    assert error.value.found.endswith(" here")
    assert "--overwrite" in error.value.fix
    assert contents(folder) == before
    assert run(folder, overwrite=True, **options).n in (N - 1, N - 2)


def test_overwriting_replaces_the_features(folder):
    (folder / "notes.txt").write_text("mine")
    embedding = run(folder, images=broken_set(60, []), overwrite=True)
    assert embedding.n == 60
    assert sorted(contents(folder)) == [
        "00000-of-00002.npz",
        "00001-of-00002.npz",
        "failures.jsonl",
        "features.json",
        "notes.txt",
    ]


def test_overwriting_computes_finished_features_anew(folder):
    module = Tiny()
    run(folder, encoder=module, overwrite=True)
    assert sum(module.calls) == 1 + N - 1


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UsageError, match="is not empty") as error:
        run(tmp_path)
    assert "--overwrite" in error.value.fix
    run(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "important"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "features").write_text("x")
    with pytest.raises(UsageError, match="features is a file"):
        run(tmp_path / "features")


def test_a_folder_with_strays_of_a_killed_run_alone_is_taken(tmp_path):
    (tmp_path / ".features.json.01ab23cd.tmp").write_text("{")
    run(tmp_path)
    assert sorted(contents(tmp_path)) == [*NAMES, "failures.jsonl", "features.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="no permission"):
        run(tmp_path / "features")


def test_a_stretch_of_unreadable_images_as_long_as_a_shard_is_an_error(tmp_path):
    images = broken_set(N, range(40, 80))
    with pytest.raises(InputError, match="none of 40 images in a row can be read"):
        run(tmp_path / "features", images=images, allowed_failures=0.5)


@pytest.mark.slow
def test_two_runs_at_once_write_the_same_folder(folder, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "shared")],
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        for _ in range(2)
    ]
    codes = [process.wait(60) for process in both]
    assert 0 in codes
    run(tmp_path / "shared")
    assert contents(tmp_path / "shared") == contents(folder)


# One writer at a time


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_folder_that_another_run_writes_into_is_refused(is_finished, tmp_path):
    folder = tmp_path / "features"
    if is_finished:
        run(folder)
    folder.mkdir(exist_ok=True)
    lock = FolderLock(folder)
    try:
        with pytest.raises(UsageError, match=f"is in use by pid {os.getpid()}") as e:
            run(folder, overwrite=True)
        assert e.value.exit_code == 2
        with pytest.raises(UsageError, match="is in use by pid"):
            run().save(folder, overwrite=True)
    finally:
        lock.release()
    run(folder)
    assert {*contents(folder)} == {*NAMES, "features.json", "failures.jsonl"}


def test_a_folder_is_held_while_it_is_written(tmp_path):
    module, seen = Tiny(), []

    def look(*_):
        seen.append((tmp_path / "features" / ".lock").exists())

    module.register_forward_pre_hook(look)
    run(tmp_path / "features", encoder=module)
    assert not seen[0] and all(seen[1:]) and len(seen) > 2


@pytest.mark.parametrize("left", ["", "{}", '{"pid": 1, "host": "h", "started": "s"}'])
def test_the_lock_of_a_killed_run_is_nothing_foreign(left, tmp_path):
    (tmp_path / ".lock").write_text(left)
    run(tmp_path)
    assert open_store(tmp_path).n == N - 1
    assert not (tmp_path / ".lock").exists()


def test_finished_features_are_used_where_nothing_may_be_written(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(features_folder, "FolderLock", None)
    assert run(folder).n == N - 1


# Space


def test_too_little_space_is_told_before_the_work(tmp_path, monkeypatch, caplog):
    # 6 + 4 features of 4 bytes and a thumbnail of 8 x 8: 232 bytes a row, 40 a shard
    shard, whole = 232 * 40, 232 * 150
    folder, module = tmp_path / "features", Tiny()
    monkeypatch.setattr(features_folder, "free_disk_bytes", lambda _: shard - 1)
    with pytest.raises(ResourceError, match="features: no space left on the disk") as e:
        run(folder, encoder=module)
    assert module.calls == [1]
    assert "0.0 MB for the next shard" in e.value.expected
    monkeypatch.setattr(features_folder, "free_disk_bytes", lambda _: whole - 1)
    run(folder)
    assert "0.0 MB are free, the features will need 0.0 MB" in caplog.text
    caplog.clear()
    monkeypatch.setattr(features_folder, "free_disk_bytes", lambda _: 0)
    run(folder)  # finished: nothing is written
    monkeypatch.setattr(features_folder, "free_disk_bytes", lambda _: whole)
    run(tmp_path / "other")
    assert "are free" not in caplog.text
