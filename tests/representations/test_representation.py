"""What belongs together is checked once: labels, attributes, ids, splits, test rows."""

import re

import numpy as np
import pytest
import torch

from repscope._arrays import host
from repscope._checking import InputError, UsageError
from repscope.representations import representation
from repscope.representations.representation import (
    Representation,
    encode_attribute,
    encode_ids,
    encode_level,
    encode_split,
    parents_of,
)

FEATURES = np.arange(24.0).reshape(6, 4)
# Stands for pandas' NA, which is neither None nor a float nor comparable.
Missing = type("NAType", (), {"__eq__": None})


@pytest.mark.parametrize(
    ("values", "codes", "classes"),
    [
        ([3, 1, 1, 2], [2, 0, 0, 1], ("1", "2", "3")),
        ([-1, 10, 9, -1], [0, 2, 1, 0], ("-1", "9", "10")),
        (["cat", "ant", "cat", "bee"], [2, 0, 2, 1], ("ant", "bee", "cat")),
        ([True, False, True, True], [1, 0, 1, 1], ("False", "True")),
        ([2.0, 0.0, 2.0, 1.0], [2, 0, 2, 1], ("0", "1", "2")),
        (np.array([7, 7, 8, 7], np.uint8), [0, 0, 1, 0], ("7", "8")),
        (np.array([5, 4, 5, 5], ">i4"), [1, 0, 1, 1], ("4", "5")),
        (np.array([1, 0, 1, 1], np.float16), [1, 0, 1, 1], ("0", "1")),
        (np.array(["a", 1, "a", 2], object), [2, 0, 2, 1], ("1", "2", "a")),
        (np.array([b"no", b"yes", b"no", b"no"]), [0, 1, 0, 0], ("no", "yes")),
        (torch.tensor([4, 2, 4, 2]), [1, 0, 1, 0], ("2", "4")),
        ([9, 9, 9, 9], [0, 0, 0, 0], ("9",)),
    ],
)
def test_labels_become_codes_in_order(values, codes, classes):
    level = encode_level("fine", values, 4)
    assert level.codes.dtype == np.int64
    assert level.codes.tolist() == codes
    assert level.classes == classes
    assert level.n_classes == len(classes)
    assert level.take(np.array([3, 0])).codes.tolist() == [codes[3], codes[0]]


LENGTH = "labels 'fine': one entry per row of features is needed"
NO_CLASS = "expected: whole numbers or words, none missing\n  fix: drop the rows"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1, 2, 3],
            f"{LENGTH}\n  found: 3 entries; expected: 4\n"
            "  fix: pass labels 'fine' in the order of the rows, one for each",
        ),
        ([], f"{LENGTH}\n  found: 0 entries; expected: 4"),
        (
            [0.0, 1.5, 1.0, 2.5],
            f"labels 'fine': row 1 is no class\n  found: 1.5; {NO_CLASS} without a "
            "label, or pass a number as an attribute",
        ),
        (
            [0.0, 1.0, np.nan, 2.0],
            f"labels 'fine': row 2 is no class\n  found: nan; {NO_CLASS}",
        ),
        ([np.inf, 1, 1, 2], "labels 'fine': row 0 is no class\n  found: inf"),
        ([0.0, 1.0, 1e300, 2.0], "labels 'fine': row 2 is no class\n  found: 1e+300"),
        (
            np.array(["a", None, "b", None], object),
            "labels 'fine': row 1 has no label\n  found: 2 rows without one\n"
            "  fix: drop those rows first",
        ),
        (["a", "b", "c", None], "labels 'fine': row 3 has no label\n  found: 1 row w"),
        (
            np.array(["a", "b", np.nan, "c"], object),
            "labels 'fine': row 2 has no label",
        ),
        (
            np.array([Missing(), "b", "a", "c"], object),
            "labels 'fine': row 0 has no label",
        ),
        (
            np.zeros((4, 1), int),
            "labels 'fine': one value per row is needed\n"
            "  found: an array of shape (4, 1); expected: one dimension\n"
            "  fix: pass several levels as a dictionary of name -> array",
        ),
        (
            7,
            "labels 'fine': one value per row is needed\n  found: an array of shape ()",
        ),
    ],
)
def test_labels_that_are_no_classes_are_refused(values, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        encode_level("fine", values, 4)


@pytest.mark.parametrize(
    ("values", "codes", "classes"),
    [
        ([3, 1, 3, 1, 2], [2, 0, 2, 0, 1], ("1", "2", "3")),
        (["x", "y", "x", "x", "x"], [0, 1, 0, 0, 0], ("x", "y")),
        ([True, False, True, True, False], [1, 0, 1, 1, 0], ("False", "True")),
        ([1.0, 2.0, 1.0, 2.0, 1.0], [0, 1, 0, 1, 0], ("1", "2")),
        ([0.5, 0.25, 0.5, 1.0, 0.25], [1, 0, 1, 2, 0], ("0.25", "0.5", "1")),
    ],
)
def test_attributes_of_few_values_keep_them(values, codes, classes):
    level = encode_attribute("size", values, 5)
    assert level.codes.tolist() == codes
    assert level.classes == classes


@pytest.mark.parametrize("kind", ["float", "int"])
def test_numbers_with_many_values_are_cut_into_fifths(kind):
    values = np.random.default_rng(0).permutation(1000)
    level = encode_attribute("age", values / 7 if kind == "float" else values, 1000)
    assert level.classes == tuple(f"fifth {k}" for k in range(1, 6))
    assert np.bincount(level.codes).tolist() == [200] * 5
    # Ascending: every value of one fifth is below the next fifth's.
    assert (np.diff(level.codes[np.argsort(values)]) >= 0).all()


def test_ties_stay_in_one_fifth():
    values = np.concatenate([np.zeros(700), np.arange(1, 301)])
    level = encode_attribute("count", values, 1000)
    assert len(set(level.codes[:700])) == 1
    assert level.codes.max() + 1 == level.n_classes == len(set(level.codes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1, 2],
            "attribute 'age': one entry per row of features is needed\n"
            "  found: 2 entries; expected: 30",
        ),
        ([0.5] * 29 + [np.nan], "attribute 'age': row 29 has no value"),
        ([1.0] * 29 + [np.nan], "attribute 'age': row 29 has no value"),
        ([*np.arange(29.0), np.inf], "attribute 'age': row 29 has no value"),
        (["a"] * 29 + [None], "attribute 'age': row 29 has no value"),
        (np.zeros((30, 2)), "attribute 'age': one value per row is needed"),
    ],
)
def test_attributes_without_a_value_are_refused(values, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        encode_attribute("age", values, 30)


def levels(fine, coarse):
    return encode_level("fine", fine, len(fine)), encode_level("coarse", coarse, 6)


def test_parents_are_the_coarse_class_of_each_fine_one():
    fine, coarse = levels([4, 4, 7, 9, 7, 2], ["b", "b", "a", "b", "a", "a"])
    assert parents_of(fine, coarse).tolist() == [0, 1, 0, 1]


def test_levels_that_are_not_nested_are_refused():
    fine, coarse = levels(["x", "y", "x", "y", "z", "z"], [1, 2, 1, 3, 3, 3])
    message = re.escape(
        "label levels are not nested: class 'y' of 'fine' lies in two classes of "
        "'coarse'\n  found: '2' and '3'; expected: each fine class in one coarse "
        "class, levels from fine to coarse\n"
        "  fix: change the order of the levels, or pass unrelated factors as attributes"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        parents_of(fine, coarse)


@pytest.mark.parametrize(
    "values",
    [
        [False, False, True, False],
        [0, 0, 1, 0],
        ["train", "train", "test", "train"],
        ["Training", "train ", "VAL", "TRAIN"],
        np.array([b"train", b"train", b"test", b"train"]),
        torch.tensor([0, 0, 1, 0], dtype=torch.bool),
    ],
)
def test_a_split_is_true_for_test_rows(values):
    assert encode_split(values, 4).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["train", "holdout", "test", "dev"],
            "split: unknown words\n  found: dev, holdout; expected: train or test "
            "(also val, valid, validation; True for test)",
        ),
        ([0, 1, 2, 1], "split: unknown words\n  found: 2; expected: train or test"),
        (["train", None, "test", "test"], "split: unknown words\n  found: none"),
        (
            ["test"] * 4,
            "split: one side has no rows\n  found: 4 test rows of 4; expected: train",
        ),
        ([0, 0, 0, 0], "split: one side has no rows\n  found: 0 test rows of 4"),
        ([0, 1], "split: one entry per row of features is needed"),
    ],
)
def test_a_split_that_is_none_is_refused(values, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        encode_split(values, 4)


def test_ids_are_row_numbers_by_default_and_words_or_integers_otherwise():
    assert encode_ids(None, 3).tolist() == [0, 1, 2]
    assert encode_ids([30, 10, 20], 3).tolist() == [30, 10, 20]
    assert encode_ids(["b", "a", "c"], 3).tolist() == ["b", "a", "c"]
    assert encode_ids(np.array(["b", 1], object), 2).tolist() == ["b", "1"]
    assert encode_ids(np.array([b"x", b"y"]), 2).tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            ["a", "b", "a", "c", "c", "c"],
            "ids: 'c' comes 3 times\n  found: 3 different ids for 6 rows; "
            "expected: one of its own for each row",
        ),
        ([5, 5, 6, 7, 8, 9], "ids: 5 comes 2 times\n  found: 5 different ids for 6"),
        ([1, 2, 3], "ids: one entry per row of features is needed"),
        (np.zeros((6, 2)), "ids: one value per row is needed"),
    ],
)
def test_ids_that_are_not_unique_are_refused(ids, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        encode_ids(ids, 6)


def test_a_representation_knows_what_was_given():
    one = Representation.of(
        FEATURES.astype(np.float32),
        labels={"fine": list("aabbcc"), "coarse": [0, 0, 0, 0, 1, 1]},
        attributes={"hue": [0, 1, 0, 1, 0, 1]},
        ids=list("uvwxyz"),
        split=[0, 0, 0, 0, 1, 1],
    )
    assert (one.n, one.d, one.dtype, one.name) == (6, 4, "float32", "features")
    assert [level.name for level in one.levels] == ["fine", "coarse"]
    assert [level.name for level in one.attributes] == ["hue"]
    assert one.ids.tolist() == list("uvwxyz")
    assert one.is_test.sum() == 2
    assert one.rows.tolist() == list(range(6))
    assert one.inputs == {"features": "features"}
    assert Representation.of(one) is one


def test_a_single_label_array_is_a_level_of_its_own():
    one = Representation.of(FEATURES, labels=[0, 1, 2, 0, 1, 2])
    assert [level.name for level in one.levels] == ["label"]
    assert one.attributes == ()
    assert one.is_test is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"labels": {"coarse": [0, 0, 1, 1, 1, 1], "fine": list("abcdef")}},
            InputError,
            "label levels are not nested: class '0' of 'coarse' lies in two classes of",
        ),
        ({"labels": [1, 2]}, InputError, "labels 'label': one entry per row"),
        ({"ids": [1] * 6}, InputError, "ids: 1 comes 6 times"),
        (
            {"labels": {"x": list("aabbcc")}, "attributes": {"x": [0, 1] * 3}},
            UsageError,
            "'x' names a label level and an attribute",
        ),
        (
            {"split": [0, 0, 0, 1, 1, 1], "test": [0, 0, 0, 1, 1, 1]},
            UsageError,
            "split and test both say which rows test\n  fix: give one",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(arguments, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        Representation.of(FEATURES, **arguments)


def test_a_representation_takes_another_split():
    one = Representation.of(FEATURES)
    split = Representation.of(one, split=[0, 1] * 3)
    assert one.is_test is None
    assert split.is_test is not None
    assert split.is_test.tolist() == [False, True] * 3


def test_a_representation_is_shown_in_a_line():
    shown = repr(Representation.of(FEATURES, labels=[0, 1] * 3))
    assert (
        shown
        == f"<Representation 'features': 6 x {FEATURES.shape[1]}; labels label (2)>"
    )


@pytest.mark.parametrize("name", ["labels", "attributes", "ids", "test"])
def test_a_representation_takes_no_second_set_of_labels(name):
    one = Representation.of(FEATURES)
    message = f"^features are a representation already, which {name} cannot change"
    given = {"x": [0, 1] * 3} if name == "attributes" else [0, 1] * 3
    with pytest.raises(UsageError, match=message):
        Representation.of(one, **{name: given})


def test_test_features_follow_the_others():
    one = Representation.of(
        FEATURES,
        labels={"fine": list("aabbcc")},
        test=(FEATURES[:2] + 100, {"fine": ["a", "d"]}),
        ids=list(range(10, 18)),
    )
    assert one.n == 8
    assert one.is_test.tolist() == [False] * 6 + [True] * 2
    assert one.levels[0].classes == ("a", "b", "c", "d")
    assert one.levels[0].codes.tolist() == [0, 0, 1, 1, 2, 2, 0, 3]
    np.testing.assert_array_equal(
        one.take(np.array([5, 6])), [FEATURES[5], FEATURES[0] + 100]
    )
    assert one.inputs == {"features": "features, features"}


def test_a_mask_says_which_rows_test():
    one = Representation.of(FEATURES, test=np.arange(6) > 3)
    assert one.is_test.tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("labels", "test", "message"),
    [
        (
            None,
            (np.zeros((2, 3)), None),
            "test: features of another width\n  found: 3 dimensions; expected: 4, as",
        ),
        (
            {"fine": list("aabbcc")},
            (FEATURES[:2], None),
            "test: other label levels than the features have\n"
            "  found: none; expected: fine",
        ),
        (
            list("aabbcc"),
            (FEATURES[:2], list("abc")),
            "labels 'label' of test: one entry per row of test features is needed\n"
            "  found: 3 entries; expected: 2",
        ),
        (
            list("aabb"),
            (FEATURES[:2], list("ab")),
            "labels 'label': one entry per row of features is needed\n  found: 4 entri",
        ),
    ],
)
def test_test_features_that_do_not_fit_are_refused(labels, test, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        Representation.of(FEATURES, labels=labels, test=test)


def blocks_of(one):
    parts = [(start, host(block)) for start, block in one.blocks()]
    assert [start for start, _ in parts] == list(
        np.cumsum([0, *(len(block) for _, block in parts)])[:-1]
    )
    return [block for _, block in parts]


def frame(rows):
    class Frame:
        shape = rows.shape

        def to_numpy(self):
            return rows

    return Frame()


@pytest.fixture
def small_blocks(monkeypatch):
    """Hand on three rows of four features at once."""
    monkeypatch.setattr(representation, "BLOCK_VALUES", 12)


def sources(folder):
    np.save(folder / "f.npy", FEATURES)
    return {
        "array": FEATURES,
        "torch": torch.tensor(FEATURES),
        "bfloat16": torch.tensor(FEATURES).to(torch.bfloat16),
        "lists": FEATURES.tolist(),
        "frame": frame(FEATURES),
        "integers": FEATURES.astype(int),
        "path": folder / "f.npy",
        "text": str(folder / "f.npy"),
        "memmap": np.load(folder / "f.npy", mmap_mode="r"),
    }


KINDS = ["array", "torch", "bfloat16", "lists", "frame", "integers", "path", "text"]


@pytest.mark.parametrize("kind", [*KINDS, "memmap"])
def test_blocks_cover_every_row_once_whatever_the_source(kind, tmp_path, small_blocks):
    one = Representation.of(sources(tmp_path)[kind])
    blocks = blocks_of(one)
    assert max(len(block) for block in blocks) == 3
    np.testing.assert_array_equal(np.concatenate(blocks), FEATURES)
    np.testing.assert_array_equal(np.concatenate(blocks_of(one)), FEATURES)
    assert one.name == ("f.npy" if kind in ("path", "text") else "features")


@pytest.mark.parametrize("kind", [*KINDS, "memmap"])
@pytest.mark.parametrize("rows", [[0], [5], [0, 2, 3], [1, 2, 3, 4, 5], [], range(6)])
def test_rows_are_taken_across_blocks(kind, rows, tmp_path, small_blocks):
    one = Representation.of(sources(tmp_path)[kind])
    rows = np.array(rows, dtype=np.int64)
    taken = one.take(rows)
    assert type(taken) is np.ndarray or isinstance(taken, np.memmap)
    np.testing.assert_array_equal(taken, FEATURES[rows])


@pytest.mark.parametrize("kind", ["array", "torch", "path"])
def test_a_subset_of_a_subset_keeps_what_belongs_together(kind, tmp_path, small_blocks):
    one = Representation.of(
        sources(tmp_path)[kind],
        labels=list("aabbcc"),
        attributes={"hue": [0, 1, 0, 1, 0, 1]},
        ids=list("uvwxyz"),
        split=[0, 1, 0, 1, 0, 1],
    )
    subset = one.subset(np.array([0, 2, 3, 5])).subset(np.array([1, 3]))
    assert subset.n == 2
    assert subset.rows.tolist() == [2, 5]
    assert subset.ids.tolist() == ["w", "z"]
    assert subset.levels[0].codes.tolist() == [1, 2]
    assert subset.levels[0].classes == ("a", "b", "c")
    assert subset.attributes[0].codes.tolist() == [0, 1]
    assert subset.is_test.tolist() == [False, True]
    np.testing.assert_array_equal(np.concatenate(blocks_of(subset)), FEATURES[[2, 5]])
    np.testing.assert_array_equal(subset.take(np.array([1])), FEATURES[[5]])


def test_files_stay_files_until_they_are_read(tmp_path):
    np.save(tmp_path / "emb.npy", FEATURES)
    one = Representation.of(
        tmp_path / "emb.npy", test=(tmp_path / "emb.npy", None), labels=None
    )
    assert one.inputs == {"features": "emb.npy, emb.npy"}
    assert not any(isinstance(source, np.ndarray) for source in one.sources)
    assert one.n == 12
