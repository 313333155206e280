import numpy as np
import pytest

from repscope._checking import InputError, UsageError
from repscope.data.label_columns import choose_levels, says_labels

COLUMNS = {
    "coarse": np.array([0, 0, 1, 1]),
    "fine": np.array(["a", "b", "c", "c"]),
    "other": np.array([0, 1, 0, 1]),
    "secret": np.array([-1, -1, -1, -1]),
    "partial": np.array([0, 1, -1, 2]),
    "gaps": np.array([0.0, 1.0, np.nan, np.nan]),
}


def levels(wanted=None, likely=()):
    return choose_levels("x", COLUMNS, COLUMNS.get, wanted=wanted, likely=likely)


@pytest.mark.parametrize(
    ("name", "is_label"),
    [
        ("label", True),
        ("fine_label", True),
        ("train_labels", True),
        ("y_test", True),
        ("Target", True),
        ("digit", True),
        ("labels-train", True),
        ("label_quality", False),
        ("train", False),
        ("x_train", False),
        ("glabel", False),
        ("", False),
    ],
)
def test_which_names_say_labels(name, is_label):
    assert says_labels(name) == is_label


def test_more_classes_come_first():
    assert list(levels(likely=["coarse", "fine"])) == ["fine", "coarse"]
    assert list(levels(likely=["fine", "coarse"])) == ["fine", "coarse"]


def test_the_order_asked_for_is_kept():
    assert list(levels(["coarse", "fine"])) == ["coarse", "fine"]
    assert levels([]) == {}
    assert levels([], likely=["fine"]) == {}


def test_columns_that_are_no_levels_of_each_other_need_a_choice():
    with pytest.raises(UsageError, match="x: 2 columns could be labels") as error:
        levels(likely=["other", "coarse"])
    assert error.value.fix == 'say which: labels=["other"]'
    assert list(levels(["other"])) == ["other"]


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="x: has no label column 'fime'") as error:
        levels(["fime"])
    assert error.value.fix == "did you mean fine?"


def test_a_column_named_twice_is_refused():
    with pytest.raises(UsageError, match="label column 'fine' is named twice"):
        levels(["fine", "fine"])


def test_labels_kept_secret_are_none():
    assert levels(likely=["secret"]) == {}
    assert list(levels(likely=["secret", "fine"])) == ["fine"]
    assert list(levels(["secret"])) == ["secret"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("partial", "x: column `partial` lacks 1 of 4 labels, the first in row 2"),
        ("gaps", "x: column `gaps` lacks 2 of 4 labels, the first in row 2"),
    ],
)
def test_labels_that_are_missing_here_and_there_are_refused(name, message):
    with pytest.raises(InputError, match=message) as error:
        levels(likely=[name])
    assert error.value.fix.endswith("labels=[]")
