import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repscope._checking import InputError, UsageError
from repscope.data.folder_layout import (
    arrange,
    choose_split,
    reason_against,
    splits_of,
)

PARTS = st.text(alphabet=string.ascii_letters + "0129 _-é", min_size=1, max_size=6)
NAMES = st.lists(
    st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, unique=True
)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a.png", "b.png"], {}),
        (["cat/a.png", "dog/a.png"], {"class": ("cat", "dog")}),
        (["all/cat/a.png", "all/dog/a.png"], {"class": ("cat", "dog")}),
        (["x/y/z/cat/a.png", "x/y/z/dog/a.png"], {"class": ("cat", "dog")}),
        (["photos/a.png", "photos/b.png"], {}),
        (
            ["pet/cat/a.png", "pet/dog/a.png", "wild/lion/a.png"],
            {"class": ("cat", "dog", "lion"), "superclass": ("pet", "pet", "wild")},
        ),
        # the inner names repeat, so they are no classes within superclasses
        (
            ["art/cat/a.png", "art/dog/a.png", "photo/cat/a.png", "photo/dog/a.png"],
            {"class": ("art", "art", "photo", "photo")},
        ),
        # Tiny ImageNet's layout
        (["n01/images/a.png", "n02/images/a.png"], {"class": ("n01", "n02")}),
        # of different depth: as torchvision reads them
        (["cat/a.png", "dog/young/a.png"], {"class": ("cat", "dog")}),
        (["a/b/c/1.png", "a/b/d/1.png", "e/f/g/1.png"], {"class": ("a", "a", "e")}),
        (["train/cat/a.png", "train/dog/a.png"], {"class": ("cat", "dog")}),
        (["train/cat/a.png", "train/cat/b.png"], {}),
        # a vehicle among vehicles is no split
        (
            ["bus/a.png", "car/a.png", "train/a.png"],
            {"class": ("bus", "car", "train")},
        ),
    ],
)
def test_folders_are_classes(names, labels):
    layout = arrange("data", names)
    assert layout.names == tuple(names)
    assert layout.labels == labels


def test_names_are_in_natural_order():
    names = ["b/1.png", "a/10.png", "a/9.png", "a/1" + "0" * 5000 + ".png", "a/x.png"]
    names += ["a-b/1.png", "a/09.png"]
    expected = ["a/09.png", "a/9.png", "a/10.png", names[3], "a/x.png"]
    expected += ["a-b/1.png", "b/1.png"]
    assert arrange("data", names).names == tuple(expected)


@given(NAMES)
def test_the_order_does_not_depend_on_the_order_given(names):
    def arranged(names):
        try:
            return arrange("data", names)
        except (InputError, UsageError) as error:
            return type(error)

    assert arranged(names) == arranged(names[::-1])


@given(NAMES)
def test_every_picture_has_its_own_labels(names):
    try:
        layout = arrange("data", names)
    except (InputError, UsageError):
        return
    for level, values in layout.labels.items():
        assert len(values) == len(layout.names)
        for name, value in zip(layout.names, values, strict=True):
            assert value in name.split("/")[:-1], level


SPLITS = ["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png"]


@pytest.mark.parametrize(
    ("split", "kept"),
    [("train", SPLITS[:2]), ("val", SPLITS[2:]), ("valid", SPLITS[2:])],
)
def test_a_split_is_taken_by_any_of_its_names(split, kept):
    layout = arrange("data", SPLITS, split)
    assert layout.names == tuple(kept)
    assert layout.labels == {"class": ("cat", "dog")}


def test_a_split_keeps_its_folders_in_the_names():
    wrapped = [f"imagenette2/{name}" for name in SPLITS]
    assert arrange("data", wrapped, "val").names == tuple(wrapped[2:])


def test_several_splits_need_a_choice():
    with pytest.raises(UsageError, match="data: has several splits") as error:
        arrange("data", SPLITS)
    assert error.value.found == "train, val"
    assert error.value.fix == 'say which: split="train" (--part train)'


def test_a_split_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="data: has no split 'test'") as error:
        arrange("data", SPLITS, "test")
    assert error.value.found == "train, val"
    with pytest.raises(UsageError, match="data: has no split 'trian'") as error:
        arrange("data", SPLITS, "trian")
    assert error.value.fix == "did you mean train?"


@pytest.mark.parametrize(
    ("names", "found"),
    [(["cat/1.png", "dog/1.png"], "2 folders of pictures"), (["1.png"], "no folders")],
)
def test_a_split_of_what_has_none_is_refused(names, found):
    with pytest.raises(UsageError, match="data: has no split 'val'") as error:
        arrange("data", names, "val")
    assert error.value.found == found
    assert "leave the split out" in error.value.fix


def test_another_folder_can_be_taken_as_a_split():
    names = [*SPLITS, "unlabeled/5.png"]
    assert arrange("data", names, "unlabeled").names == ("unlabeled/5.png",)


@pytest.mark.parametrize(
    ("tops", "splits"),
    [
        (["train", "val"], ("train", "val")),
        (["Test", "train"], ("Test", "train")),
        (["test"], ("test",)),
        (["train", "extra"], ()),
        (["train", "test", "extra"], ("extra", "test", "train")),
        (["training", "train"], ("train", "training")),
        (["cat", "dog"], ()),
        ([], ()),
    ],
)
def test_which_folders_are_splits(tops, splits):
    assert splits_of(tops) == splits


def test_a_word_for_two_folders_chooses_neither():
    with pytest.raises(UsageError, match="has no split 'testing'"):
        choose_split("data", ["test", "TEST"], "testing")


def test_pictures_beside_class_folders_are_refused():
    names = ["cat/1.png", "cat/2.png", "dog/1.png", "preview.png"]
    with pytest.raises(InputError, match="data: pictures beside folders") as error:
        arrange("data", names)
    assert error.value.found == "1 such as preview.png beside 3 in folders"


def test_pictures_beside_the_splits_belong_to_none():
    assert arrange("data", [*SPLITS, "preview.png"], "val").names == tuple(SPLITS[2:])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.jpg", ""),
        ("a/b/c.JPEG", ""),
        ("a.tar.png", ""),
        ("\udcff\n.webp", ""),
        ("a.heic", ".heic"),
        ("data.csv", ".csv"),
        ("README", "without an ending"),
        (".a.jpg", "hidden"),
        (".git/a.jpg", "hidden"),
        ("__MACOSX/a.jpg", "hidden"),
        ("../a.jpg", "with unusable names"),
        ("a/../../b.jpg", "with unusable names"),
        ("/etc/a.jpg", "with unusable names"),
        ("folder/", "with unusable names"),
    ],
)
def test_what_is_left_out_and_why(name, reason):
    assert reason_against(name) == reason
