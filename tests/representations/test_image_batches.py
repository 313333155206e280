import json
import threading

import numpy as np
import pytest
import torch

from representations.embedding_cases import (
    CLOSE,
    MEAN,
    PREPROCESS,
    SIDE,
    STD,
    SomeBroken,
    Tiny,
    broken_set,
    expected,
    image_set,
    normalised_by_hand,
    pixels_of,
)
from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.data.imageset import ImageSet
from repscope.representations import image_batches
from repscope.representations.embed import embed

# pictures that cannot be read


@pytest.mark.parametrize("batch_size", [7, 64])
def test_unreadable_pictures_have_no_row(batch_size, caplog):
    # with batches of 7, all of rows 63 to 69
    broken, n = [0, *range(63, 70), 199], 200
    module, images = Tiny(), broken_set(n, broken)
    embedding = embed(
        module,
        images,
        preprocess=PREPROCESS,
        batch_size=batch_size,
        allowed_failures=0.05,
    )
    whole, kept = image_set(n), np.setdiff1d(np.arange(n), broken)
    np.testing.assert_array_equal(embedding.image_rows, kept)
    np.testing.assert_allclose(
        embedding.features(), expected(module, whole, kept)["last"], **CLOSE
    )
    assert embedding.ids.tolist() == whole.ids[kept].tolist()
    for level, truth in zip(embedding.levels, whole.levels, strict=True):
        names = np.array(level.classes)[level.codes]
        np.testing.assert_array_equal(names, np.array(truth.classes)[truth.codes[kept]])
    np.testing.assert_array_equal(embedding.thumbnails, pixels_of(n)[kept])
    assert [(one.row, one.id) for one in embedding.failures] == [
        (row, f"image_{row}.png") for row in broken
    ]
    assert embedding.failures[1].reason.startswith("image_63.png: no readable picture")
    assert "9 of 200 images cannot be read: no row" in caplog.text


def test_too_many_unreadable_pictures_stop_the_run(tmp_path):
    images = broken_set(200, [5, 80, 150])
    with pytest.raises(InputError, match=r"image_5\.png: no readable picture") as error:
        embed(Tiny(), images, preprocess=PREPROCESS, batch_size=8, out=tmp_path / "f")
    assert error.value.found == "at least 3 unreadable of the first 152 read"
    lines = (tmp_path / "f" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [5, 80, 150]
    allowed = embed(
        Tiny(),
        images,
        preprocess=PREPROCESS,
        allowed_failures=0.02,
        out=tmp_path / "f",
    )
    assert allowed.n == 197


def test_pictures_that_were_replaced_in_memory_have_no_row_either():
    images = broken_set(200, [3, 77]).in_memory(PREPROCESS)
    embedding = embed(Tiny(), images, preprocess=PREPROCESS, batch_size=16)
    assert [one.row for one in embedding.failures] == [3, 77]
    assert embedding.n == 198
    reference = expected(Tiny(), image_set(200), embedding.image_rows)["last"]
    np.testing.assert_allclose(embedding.features(), reference, **CLOSE)


@pytest.mark.parametrize(
    "preprocess", [PREPROCESS, lambda picture: torch.zeros(3, 4, 4)]
)
def test_a_set_without_a_readable_picture_is_an_error(preprocess):
    with pytest.raises(InputError, match="read"):
        embed(Tiny(), broken_set(4, range(4)), preprocess=preprocess)


def test_an_empty_set_is_an_error():
    with pytest.raises(InputError, match="no pictures"):
        embed(Tiny(), np.zeros((0, 8, 8, 3), np.uint8), preprocess=PREPROCESS)


# a function as preprocessing


def from_picture(picture):
    assert picture.size == (SIDE, SIDE)
    return torch.from_numpy(normalised_by_hand(np.asarray(picture)))


def from_array(array):
    assert array.dtype == np.uint8  # a Pillow image has no dtype
    return torch.from_numpy(normalised_by_hand(array))


@pytest.mark.parametrize("function", [from_picture, from_array])
def test_a_function_may_prepare_the_pictures(function):
    module, images = Tiny(), broken_set(300, [7, 8, 20])
    embedding = embed(module, images, preprocess=function, batch_size=16)
    reference = expected(module, image_set(300), embedding.image_rows)["last"]
    np.testing.assert_allclose(embedding.features(), reference, **CLOSE)
    assert [one.row for one in embedding.failures] == [7, 8, 20]
    name = f"{function.__module__}.{function.__qualname__}"
    assert embedding.plan.preprocessing == {"function": name}


def test_a_function_with_an_address_in_its_text_is_named_without_it():
    class Transform:
        def __call__(self, picture):
            return from_picture(picture)

    plan = embed(Tiny(), image_set(3), preprocess=Transform()).plan
    assert " at 0x" not in plan.preprocessing["function"]
    assert "Transform object" in plan.preprocessing["function"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda picture: np.zeros((3, 8, 8)), "returns no image as a tensor"),
        (lambda picture: torch.zeros(8, 8), "returns no image as a tensor"),
        (lambda picture: torch.zeros(3, 8, 8, dtype=torch.uint8), "returns no image"),
        (lambda picture: picture.no_such_thing, "takes neither a Pillow image nor"),
        (lambda picture: torch.zeros(2, 8, 8), "channels"),
    ],
)
def test_a_function_that_gives_no_images_is_refused(function, message):
    with pytest.raises(UsageError, match=message):
        embed(Tiny(), image_set(3), preprocess=function)


def test_a_function_must_give_one_shape():
    pictures = [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)]
    images = ImageSet.of(SomeBroken(pictures))
    with pytest.raises(UsageError, match="images of several shapes in one batch"):
        embed(
            Tiny(),
            images,
            preprocess=lambda one: torch.zeros(3, *np.asarray(one).shape[:2]),
        )


def test_thumbnails_are_small_and_may_be_left_out():
    images = ImageSet.of(pixels_of(3, side=96))
    preprocess = Preprocess(96, mean=MEAN, std=STD)
    assert embed(Tiny(), images, preprocess=preprocess).thumbnails.shape == (
        3,
        48,
        48,
        3,
    )
    without = embed(Tiny(), images, preprocess=preprocess, thumbnails=False)
    assert without.thumbnails is None


# reading ahead


def test_the_next_batch_is_read_while_one_is_used():
    read, second = [], threading.Event()

    def answer(k):
        read.append(k)
        if k == 1:
            second.set()
        return k * 10

    answers = image_batches.ahead(answer, range(4))
    assert next(answers) == 0
    assert second.wait(10)  # nobody has asked for it yet
    assert 2 not in read
    assert list(answers) == [10, 20, 30]


def test_an_error_while_reading_ahead_arrives():
    def read(k):
        if k == 2:
            raise InputError("row 2 is gone")
        return k

    answers = image_batches.ahead(read, range(5))
    assert [next(answers), next(answers)] == [0, 1]
    with pytest.raises(InputError, match="row 2 is gone"):
        next(answers)
