import logging
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data.encoded_cases import png, value_of, write_tree, write_zip
from data_files import data_file
from repscope._checking import InputError, ResourceError, UsageError
from repscope._images import Preprocess
from repscope.data.image_folder import open_folder, open_zip

PETS = ["cat/2.png", "cat/10.png", "dog/1.png", "dog/3.png"]


def opened(tmp_path, form, names, split=None):
    """Return a tree of pictures opened as a folder or as an archive."""
    if form == "zip":
        return open_zip(write_zip(tmp_path / "pets.zip", names), split=split)
    return open_folder(write_tree(tmp_path / "pets", names), split=split)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_sub_folders_are_classes_and_paths_are_ids(form, tmp_path):
    pets = opened(tmp_path, form, PETS)
    assert pets.name == {"folder": "pets", "zip": "pets.zip"}[form]
    assert pets.ids.tolist() == PETS
    assert pets.labels["class"].tolist() == ["cat", "cat", "dog", "dog"]
    assert [value_of(pets.images, row) for row in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_rows_follow_the_names_not_the_order_of_writing(form, tmp_path):
    pets = opened(tmp_path, form, PETS[::-1])
    assert pets.ids.tolist() == PETS
    assert [value_of(pets.images, row) for row in range(4)] == [3, 2, 1, 0]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_pictures_without_sub_folders_have_no_labels(form, tmp_path):
    pets = opened(tmp_path, form, ["b.png", "a.png"])
    assert (pets.n, pets.levels) == (2, ())


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_two_levels_of_folders_are_two_label_levels(form, tmp_path):
    names = ["pet/cat/1.png", "pet/dog/1.png", "wild/lion/1.png"]
    fine, coarse = opened(tmp_path, form, names).levels
    assert (fine.name, fine.classes) == ("class", ("cat", "dog", "lion"))
    assert (coarse.name, coarse.classes) == ("superclass", ("pet", "wild"))
    assert coarse.codes.tolist() == [0, 0, 1]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_split_is_named_where_there_are_several(form, tmp_path):
    names = [f"{split}/{name}" for split in ("train", "val") for name in PETS]
    val = opened(tmp_path, form, names, split="val")
    assert [value_of(val.images, row) for row in range(4)] == [4, 5, 6, 7]
    with pytest.raises(UsageError, match="pets.*: has several splits") as error:
        opened(tmp_path, form, names)
    assert error.value.found == "train, val"


def test_both_forms_are_the_same_set(tmp_path):
    folder, archive = (opened(tmp_path, form, PETS) for form in ("folder", "zip"))
    preprocess = Preprocess(4)
    rows = np.arange(4)
    first, second = (one.pixels(rows, preprocess) for one in (folder, archive))
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_array_equal(folder.keys, archive.keys)


def test_other_files_are_left_out_and_counted(tmp_path, caplog):
    folder = write_tree(tmp_path / "pets", PETS)
    extra = ["notes.md", "cat/.DS_Store", ".cache/1.png", "cat/1.heic", "LICENSE"]
    write_tree(folder, extra)
    with caplog.at_level(logging.INFO, logger="repscope"):
        pets = open_folder(folder)
    assert pets.n == 4
    assert pets.images.ignored == {
        "hidden": 2,
        ".md": 1,
        ".heic": 1,
        "without an ending": 1,
    }
    assert caplog.messages == [
        "pets: left out 2 hidden, 1 .heic, 1 .md, 1 without an ending"
    ]


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    folder = write_tree(tmp_path / "data", [f"{k}.heic" for k in range(12)] + ["a.md"])
    with pytest.raises(InputError, match="^no images under data/") as error:
        open_folder(folder)
    assert error.value.found == "12 .heic, 1 .md"
    assert error.value.expected.startswith(".jpg, .jpeg, .png")
    assert error.value.fix == "convert the .heic files to .png or .jpg"


@pytest.mark.parametrize(
    ("names", "found", "fix"),
    [
        ([], "nothing at all", "pass the folder or archive"),
        (["train.parquet"], "1 .parquet", "pass one of its .parquet files"),
        (["a.npy", "b.npy"], "2 .npy", "repscope diagnose data"),
        (["a.tar"], "1 .tar", "unpack the .tar files"),
        ([f"{k}.x{k}" for k in range(9)], "1 .x5, ...", "pass the folder"),
    ],
)
def test_an_empty_folder_says_what_to_do(names, found, fix, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="^no images under data/") as error:
        open_folder(write_tree(tmp_path / "data", names))
    assert error.value.found.endswith(found)
    assert fix in error.value.fix


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    with pytest.raises(InputError, match="a.png: is a file, not a folder") as error:
        open_folder(tmp_path / "a.png")
    assert error.value.fix == "pass the folder that it lies in"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    write_tree(tmp_path / "pets", PETS)
    with pytest.raises(InputError, match="no such file") as error:
        open_folder(tmp_path / "pest")
    assert error.value.fix == "did you mean pets?"


def test_an_address_is_refused():
    with pytest.raises(UsageError, match="is an address, not a file"):
        open_folder("https://example.org/data")


def test_links_in_a_circle_are_passed_over(tmp_path):
    folder = write_tree(tmp_path / "pets", PETS)
    (folder / "cat" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "cat" / "up").symlink_to("..", target_is_directory=True)
    (folder / "itself").symlink_to("itself")
    pets = open_folder(folder)
    assert pets.ids.tolist() == PETS
    assert pets.images.ignored == {"links to folders": 2, "without an ending": 1}


def test_a_link_to_itself_is_an_unreadable_picture(tmp_path):
    folder = write_tree(tmp_path / "pets", PETS)
    (folder / "dog" / "itself.png").symlink_to("itself.png")
    pets = open_folder(folder)
    assert pets.n == 5
    with pytest.raises(InputError, match="dog/itself.png: Too many levels"):
        pets.images.read(4)


def test_links_within_the_folder_are_followed(tmp_path):
    folder = write_tree(tmp_path / "pets", [*PETS, ".pool/x.png"])
    (folder / "cat" / "3.png").symlink_to("../.pool/x.png")
    pets = open_folder(folder)
    assert pets.ids.tolist()[1] == "cat/3.png"
    assert value_of(pets.images, 1) == 4


@pytest.mark.parametrize("target", ["secret/1.png", "secret", "secret/none.png"])
def test_links_out_of_the_folder_are_refused(target, tmp_path):
    write_tree(tmp_path, ["secret/1.png"])
    folder = write_tree(tmp_path / "pets", PETS)
    (folder / "cat" / "9.png").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="pets: links lead out of the folder") as error:
        open_folder(folder)
    assert error.value.found == "1, the first is cat/9.png"
    assert "cp -rL pets" in error.value.fix


def test_a_link_out_of_the_folder_that_is_no_picture_does_no_harm(tmp_path):
    folder = write_tree(tmp_path / "pets", PETS)
    (folder / "notes.md").symlink_to("/etc/hostname")
    assert open_folder(folder).n == 4


def test_a_folder_may_be_reached_by_a_link(tmp_path):
    write_tree(tmp_path / "pets", PETS)
    (tmp_path / "link").symlink_to("pets", target_is_directory=True)
    assert open_folder(tmp_path / "link").ids.tolist() == PETS


def test_a_pipe_called_like_a_picture_is_not_opened(tmp_path):
    folder = write_tree(tmp_path / "pets", PETS)
    os.mkfifo(folder / "cat" / "3.png")
    (folder / "cat" / "4.png").symlink_to("3.png")
    pets = open_folder(folder)
    assert pets.ids.tolist() == PETS
    assert pets.images.ignored == {"pipes and devices": 2}


def test_a_sub_folder_without_permission_is_named(tmp_path, monkeypatch):
    folder = write_tree(tmp_path / "pets", PETS)
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ResourceError, match="dog: permission denied") as error:
        open_folder(folder)
    assert f"chmod u+r {folder / 'dog'}" in error.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_sub_folder_that_may_not_be_read_is_named(tmp_path):
    folder = write_tree(tmp_path / "pets", PETS)
    (folder / "dog").chmod(0)
    try:
        with pytest.raises(ResourceError, match="dog: permission denied"):
            open_folder(folder)
    finally:
        (folder / "dog").chmod(0o700)


def test_names_of_any_bytes_survive(tmp_path):
    names = [b"cat/\xff\xfe.png", b"cat/a\nb.png", "cat/é漢.png".encode()]
    names += [b"dog/=1+1 .png", b"dog/<b>&.png"]
    folder = tmp_path / "pets"
    for value, name in enumerate(names):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(value))
    pets = open_folder(folder)
    assert sorted(os.fsencode(name) for name in pets.ids.tolist()) == sorted(names)
    by_name = {
        os.fsencode(name): value_of(pets.images, row)
        for row, name in enumerate(pets.ids.tolist())
    }
    assert by_name == {name: value for value, name in enumerate(names)}
    assert len(set(pets.keys.tolist())) == len(names)
    assert pets.fingerprint == open_folder(folder).fingerprint


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path):
    first = open_folder(write_tree(tmp_path / "a" / "pets", PETS))
    second = open_folder(write_tree(tmp_path / "b" / "pets", PETS))
    assert first.fingerprint == second.fingerprint


def test_members_that_would_leave_the_archive_are_left_out(tmp_path):
    hostile = ["../../etc/1.png", "/abs/1.png", "cat/../../x.png", "C:\\w\\..\\1.png"]
    pets = open_zip(write_zip(tmp_path / "pets.zip", [*PETS, *hostile]))
    assert pets.ids.tolist() == PETS
    assert pets.images.ignored == {"with unusable names": 4}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["pets.zip"]


def test_folders_written_with_backslashes_are_folders(tmp_path):
    names = [name.replace("/", "\\") for name in PETS]
    pets = open_zip(write_zip(tmp_path / "pets.zip", names))
    assert pets.ids.tolist() == PETS


def test_an_archive_without_pictures_says_what_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "docs.zip", "w") as archive:
        archive.writestr("docs/a.md", "a")
    with pytest.raises(InputError, match="^no images under docs.zip") as error:
        open_zip(tmp_path / "docs.zip")
    assert error.value.found == "1 .md"


def test_imagenette_is_read_inside_its_archive():
    path = data_file("imagenette224.zip")
    train, val = (open_zip(path, split=split) for split in ("train", "val"))
    assert (train.n, val.n) == (1200, 400)
    (level,) = train.levels
    assert level.n_classes == 10
    assert np.bincount(level.codes).tolist() == [120] * 10
    assert np.bincount(val.levels[0].codes).tolist() == [40] * 10
    assert level.classes == val.levels[0].classes
    assert level.classes[0] == "n01440764"
    assert not set(train.ids.tolist()) & set(val.ids.tolist())
    assert train.ids[0].startswith("imagenette224_subset/train/n01440764/ILSVRC2012")
    with pytest.raises(UsageError, match="imagenette224.zip: has several splits"):
        open_zip(path)


def test_imagenette_is_decoded_as_pillow_does():
    path = data_file("imagenette224.zip")
    image = pytest.importorskip("PIL.Image", reason="Pillow decodes the images")
    train = open_zip(path, split="train")
    rows = list(range(0, 1200, 60))
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(train.images.read, rows))
    with zipfile.ZipFile(path) as archive:
        for row, pixels in zip(rows, read, strict=True):
            with archive.open(str(train.ids[row])) as file:
                expected = np.asarray(image.open(file).convert("RGB"))
            np.testing.assert_array_equal(pixels, expected)
