"""Data sets as torchvision and Hugging Face have them give pictures and labels."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from repscope._checking import InputError
from repscope.data.imageset import ImageSet

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)


class TorchvisionLike:
    """As CIFAR10 is: `targets`, `classes`, items of a Pillow image and a label."""

    def __init__(self, n=30, **facts):
        self.n, self.looks = n, 0
        self.targets = [k % 3 for k in range(n)]
        self.classes = ["cat", "dog", "eel"]
        self.__dict__ |= facts

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        self.looks += 1
        return Image.fromarray(PIXELS[row]), self.targets[row]


class HuggingFaceLike:
    """As CIFAR-100 is there: features with names, columns and rows by one bracket."""

    def __init__(self, columns, features):
        self.columns, self.features = columns, features

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        picture = Image.fromarray(PIXELS[key])
        return {"img": picture} | {k: v[key] for k, v in self.columns.items()}


def named(*classes):
    return SimpleNamespace(names=list(classes))


def test_torchvision_data_sets_say_their_labels_without_being_read():
    dataset = TorchvisionLike()
    images = ImageSet.of(dataset)
    assert dataset.looks <= 16
    assert images.labels["label"].tolist() == ["cat", "dog", "eel"] * 10
    assert images.levels[0].classes == ("cat", "dog", "eel")
    np.testing.assert_array_equal(images.pixels(np.arange(30)).array, PIXELS)


@pytest.mark.parametrize(
    "facts",
    [
        {"targets": None},
        {"targets": [0], "classes": None},
        {"target_transform": lambda label: 2 - label},
    ],
)
def test_labels_are_read_from_items_where_nothing_else_is_sure(facts):
    class Reversed(TorchvisionLike):
        def __getitem__(self, row):
            return Image.fromarray(PIXELS[row]), 2 - row % 3

    labels = ImageSet.of(Reversed(**facts)).levels[0]
    assert labels.codes.tolist() == [2, 1, 0] * 10
    expected = ("cat", "dog", "eel") if "classes" not in facts else ("0", "1", "2")
    assert labels.classes == expected


def test_given_labels_take_the_place_of_a_data_sets_own():
    dataset = TorchvisionLike()
    images = ImageSet.of(dataset, labels={"row": np.arange(30)})
    assert [*images.labels] == ["row"]
    assert ImageSet.of(dataset, labels={}).levels == ()
    assert dataset.looks <= 32


def test_hugging_face_columns_become_levels_from_fine_to_coarse():
    fine = np.arange(30) % 4
    dataset = HuggingFaceLike(
        {
            "coarse": fine // 2,
            "fine": fine,
            "day": (np.arange(30) % 3),
            "note": [""] * 30,
        },
        {
            "img": SimpleNamespace(),
            "coarse": named("pet", "fish"),
            "fine": named("cat", "dog", "eel", "ray"),
            "day": named("Mon", "Tue", "Wed"),
            "note": SimpleNamespace(),
        },
    )
    images = ImageSet.of(dataset)
    assert [level.name for level in images.levels] == ["fine", "coarse"]
    assert [level.name for level in images.attributes] == ["day"]
    assert images.labels["coarse"][:4].tolist() == ["pet", "pet", "fish", "fish"]
    np.testing.assert_array_equal(images.pixels(np.array([29])).array[0], PIXELS[29])


def test_a_column_without_any_label_is_left_out():
    columns = {"label": [-1] * 30}
    images = ImageSet.of(HuggingFaceLike(columns, {"label": named("a", "b")}))
    assert images.levels == ()
    columns = {"label": [0, -1] + [1] * 28}
    with pytest.raises(InputError, match="^labels 'label': row 1 has no label\n"):
        ImageSet.of(HuggingFaceLike(columns, {"label": named("a", "b")}))


def test_two_classes_of_one_name_stay_two():
    columns = {"label": np.arange(30) % 3}
    names = named("crane", "owl", "crane")
    level = ImageSet.of(HuggingFaceLike(columns, {"label": names})).levels[0]
    assert level.classes == ("crane (0)", "owl", "crane (2)")


def encoded(row):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[row]).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "item_of",
    [
        lambda row: Image.fromarray(PIXELS[row]),
        lambda row: PIXELS[row],
        lambda row: (PIXELS[row] / 255).astype(np.float32),
        lambda row: PIXELS[row].transpose(2, 0, 1),
        lambda row: [Image.fromarray(PIXELS[row])],
        lambda row: {"image": Image.fromarray(PIXELS[row]), "id": row},
        lambda row: {"photo": Image.fromarray(PIXELS[row])},
        lambda row: {"image": {"bytes": encoded(row), "path": None}},
        lambda row: {"png": encoded(row)},
        encoded,
    ],
)
def test_pictures_are_found_in_items_of_any_form(item_of):
    images = ImageSet.of([item_of(row) for row in range(5)])
    assert images.levels == ()
    np.testing.assert_array_equal(images.pixels(np.arange(5)).array, PIXELS[:5])


def test_tensors_have_their_channels_first():
    torch = pytest.importorskip("torch", reason="the example is a torch data set")
    pixels = torch.tensor(PIXELS.transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
    labels = torch.arange(30) % 3
    dataset = torch.utils.data.TensorDataset(pixels, labels)
    images = ImageSet.of(torch.utils.data.Subset(dataset, range(10, 30)))
    np.testing.assert_array_equal(images.pixels(np.arange(20)).array, PIXELS[10:])
    assert images.labels["label"].tolist() == labels[10:].tolist()


def test_pairs_and_dictionaries_carry_labels():
    pairs = [(PIXELS[row], f"class {row % 2}") for row in range(6)]
    assert ImageSet.of(pairs).labels["label"].tolist() == ["class 0", "class 1"] * 3
    entries = [
        {"image": PIXELS[row], "coarse_label": row // 3, "fine_label": np.int64(row)}
        for row in range(6)
    ]
    images = ImageSet.of(entries)
    assert [*images.labels] == ["fine_label", "coarse_label"]
    assert images.labels["coarse_label"].tolist() == [0, 0, 0, 1, 1, 1]


def test_grey_data_sets_have_one_channel_and_mixed_ones_three():
    grey = [Image.fromarray(PIXELS[row]).convert("L") for row in range(6)]
    images = ImageSet.of(grey)
    assert images.channels == 1
    np.testing.assert_array_equal(
        images.pixels(np.array([5])).array[0, ..., 0], np.asarray(grey[5])
    )
    mixed = [*grey, Image.fromarray(PIXELS[6])]
    assert ImageSet.of(mixed).pixels(np.arange(7)).array.shape == (7, 8, 6, 3)


def test_a_picture_that_a_data_set_cannot_open_is_a_failure():
    class Torn(TorchvisionLike):
        def __getitem__(self, row):
            if row == 11:
                raise OSError("image file is truncated")
            return super().__getitem__(row)

    pixels = ImageSet.of(Torn()).pixels(np.arange(30))
    assert np.flatnonzero(~pixels.good).tolist() == [11]
    assert pixels.failures[0].reason == "images, row 11: image file is truncated"


def test_errors_of_a_data_sets_own_code_are_not_hidden():
    class Buggy(TorchvisionLike):
        def __getitem__(self, row):
            if row == 11:
                raise ZeroDivisionError
            return super().__getitem__(row)

    with pytest.raises(ZeroDivisionError):
        ImageSet.of(Buggy()).pixels(np.arange(30))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([3], "images, row 0: no picture\n  found: an item of type int"),
        (
            [{"text": "a"}],
            "images, row 0: no picture\n  found: entries 'text'; expected:",
        ),
        (
            [{"image": None}],
            "images, row 0: no picture\n  found: an item of type NoneType",
        ),
        ([b"GIF"], "images, row 0: no readable picture ("),
        ([PIXELS[0] / 100], "images, row 0: row 0 has pixels outside of [0, 1]"),
        (
            [(PIXELS[0], [1, 2])],
            "images, row 0: label: a label of another form\n  found",
        ),
        ([(PIXELS[0], np.ones(3))], "images, row 0: label: a label of another form"),
    ],
)
def test_items_without_a_picture_or_a_label_are_refused(items, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        ImageSet.of(items)


def test_the_fingerprint_looks_at_some_pictures():
    first = ImageSet.of(TorchvisionLike())
    assert first.fingerprint == ImageSet.of(TorchvisionLike()).fingerprint
    rolled = [(np.roll(PIXELS[row], 1), row % 3) for row in range(30)]
    assert ImageSet.of(rolled).fingerprint != first.fingerprint
