import numpy as np
import pytest

from repscope._checking import InputError
from repscope.data.cifar import CIFAR10, CIFAR100, read_cifar

# Of the specification: the superclass of each of the hundred classes.
PARENTS = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14
16 9 11 5 5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19
2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13
"""


def written(path, labels):
    """Write records with these label bytes; return their pixels, channels last."""
    labels = np.array(labels, dtype=np.uint8).reshape(len(labels), -1)
    pixels = np.random.default_rng(0).integers(
        0, 256, (len(labels), 32, 32, 3), dtype=np.uint8
    )
    rows = [
        bytes(label)
        + b"".join(picture[:, :, channel].tobytes() for channel in range(3))
        for label, picture in zip(labels, pixels, strict=True)
    ]
    path.write_bytes(b"".join(rows))
    return pixels


def test_the_hundred_classes_have_their_superclasses():
    assert CIFAR100.parents.tolist() == [int(one) for one in PARENTS.split()]
    assert np.bincount(CIFAR100.parents).tolist() == [5] * 20
    fish = np.flatnonzero(CIFAR100.parents == 1)
    assert CIFAR100.coarse[1] == "fish"
    assert fish.tolist() == [1, 32, 67, 73, 91]
    assert [CIFAR100.fine[one] for one in fish] == [
        *("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    ]


def test_the_ten_classes_are_vehicles_and_animals():
    assert CIFAR10.coarse == ("animal", "vehicle")
    assert CIFAR10.parents.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert CIFAR10.fine[3:6] == ("cat", "deer", "dog")


def test_the_tables_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        CIFAR100.parents[0] = 0


def test_of_cifar100_the_coarse_byte_comes_first(tmp_path):
    pixels = written(tmp_path / "train.bin", [(11, 19), (1, 32), (4, 0)])
    records = read_cifar(tmp_path / "train.bin")
    np.testing.assert_array_equal(records.pixels, pixels)
    assert list(records.labels) == ["fine_label", "coarse_label"]
    fine, coarse = (values.tolist() for values in records.labels.values())
    assert fine == ["cattle", "flatfish", "apple"]
    assert coarse[1:] == ["fish", "fruit_and_vegetables"]


def test_of_cifar10_the_label_is_one_byte(tmp_path):
    pixels = written(tmp_path / "test_batch.bin", [3, 9])
    records = read_cifar(tmp_path / "test_batch.bin")
    np.testing.assert_array_equal(records.pixels, pixels)
    labels = {level: values.tolist() for level, values in records.labels.items()}
    assert labels == {"label": ["cat", "truck"], "kind": ["animal", "vehicle"]}


def test_a_size_that_fits_both_is_told_by_its_labels(tmp_path):
    written(tmp_path / "x.bin", [5] * 3074)
    assert list(read_cifar(tmp_path / "x.bin").labels) == ["label", "kind"]


@pytest.mark.parametrize(
    "labels", [[(19, 11)], [(1, 33)], [(1, 100)], [(20, 1)], [10], [255]]
)
def test_labels_that_cannot_be_are_refused(labels, tmp_path):
    written(tmp_path / "x.bin", labels)
    with pytest.raises(
        InputError, match="x.bin: is damaged, not binary CIFAR"
    ) as error:
        read_cifar(tmp_path / "x.bin")
    assert error.value.found == "labels that CIFAR has not"


@pytest.mark.parametrize(
    ("content", "message", "fix"),
    [
        (
            b"\x80\x04}q\x00." * 9,
            "x.bin: is a pickle, not binary CIFAR",
            "cifar-10-bin",
        ),
        (b"\x1f\x8b\x08", "x.bin: is a compressed file, not binary", "unpack it"),
        (b"<html>404", "x.bin: is an HTML page, not binary CIFAR", "download"),
        (b"", "x.bin: is an empty file, not binary CIFAR", "copy it again"),
        (bytes(range(256)) * 12, "x.bin: is damaged, not binary CIFAR", "download"),
    ],
)
def test_what_is_no_cifar_is_named(content, message, fix, tmp_path):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_cifar(tmp_path / "x.bin")
    assert fix in error.value.fix
