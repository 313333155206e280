"""Planted bits are easy to see, say nothing of the class, and need no state."""

import hashlib
import inspect
import re

import numpy as np
import pytest
import scipy.stats

from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.data.digits import digits16
from repscope.data.images import ArrayImages, Images
from repscope.data.imageset import ImageSet
from repscope.data.shapes import shapes20
from repscope.data.shortcuts import bits_of, cells, code_of, patch_mask, randbit

MODES = ["hash", "random", "balanced"]


def codes_of(images):
    bits = [one for one in images.attributes if one.name.startswith("bit")]
    return sum(one.codes << place for place, one in enumerate(bits))


def test_the_code_is_a_hash_of_the_pictures_bytes():
    images = digits16("test")
    planted = randbit(images, 12)
    array = images.pixels(np.arange(images.n)).array
    for row, code in enumerate(codes_of(planted).tolist()):
        digest = hashlib.blake2b(bytes(array[row].ravel().tolist()), digest_size=8)
        assert code == int.from_bytes(digest.digest(), "little") % 4096


def test_planes_are_the_bits_of_the_code_from_the_lowest():
    codes = np.array([0, 1, 2, 5, 8])
    expected = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert bits_of(codes, 3).tolist() == expected
    planted = randbit(digits16("test"), 5)
    assert planted.n_planes == 5
    np.testing.assert_array_equal(planted.planes, bits_of(codes_of(planted), 5))
    assert [one.name for one in planted.attributes] == [f"bit{k}" for k in range(5)]


def test_pixels_labels_and_channels_stay_as_they_are():
    images = digits16("test")
    planted = randbit(images, 3)
    assert planted.channels == 1
    assert planted.levels == images.levels
    rows = np.arange(images.n)
    np.testing.assert_array_equal(planted.pixels(rows).array, images.pixels(rows).array)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [0, 1])
def test_bits_say_nothing_of_the_label(mode, seed):
    images = digits16()
    planted = randbit(images, 4, mode=mode, seed=seed)
    for one in planted.attributes:
        table = np.zeros((10, 2))
        np.add.at(table, (images.levels[0].codes, one.codes), 1)
        assert scipy.stats.chi2_contingency(table).pvalue > 0.01
    table = np.zeros((10, 16))
    np.add.at(table, (images.levels[0].codes, codes_of(planted)), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_bits_say_nothing_of_one_another_and_all_codes_are_reached(mode):
    codes = codes_of(randbit(digits16(), 6, mode=mode, seed=1))
    counts = np.bincount(codes, minlength=64)
    assert len(counts) == 64
    assert counts.min() > 0
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_balanced_codes_come_equally_often_in_the_set_and_in_each_class():
    images = digits16()
    codes = codes_of(randbit(images, 4, mode="balanced"))
    assert np.ptp(np.bincount(codes, minlength=16)) <= 1
    for label in range(10):
        own = codes[images.levels[0].codes == label]
        assert np.ptp(np.bincount(own, minlength=16)) <= 1


def test_a_hash_needs_no_state_of_the_rest_of_the_set():
    together = randbit(digits16(), 8)
    train, test = randbit(digits16("train"), 8), randbit(digits16("test"), 8)
    apart = np.concatenate([train.planes, test.planes])
    np.testing.assert_array_equal(together.planes, apart)
    rows = np.array([400, 3, 77])
    few = randbit(digits16("test").subset(rows), 8)
    np.testing.assert_array_equal(few.planes, test.planes[rows])


@pytest.mark.parametrize("mode", ["hash", "random"])
def test_more_bits_keep_the_lower_ones_of_a_hash_and_seeds_change_all(mode):
    images = digits16("test")
    other = randbit(images, 8, mode=mode, seed=1).planes
    first = randbit(images, 8, mode=mode).planes
    # Independent bits agree in half of 4,000 places, within four deviations.
    assert abs((first == other).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    if mode == "hash":
        fewer = randbit(images, 3, mode=mode).planes
        np.testing.assert_array_equal(fewer, first[:, :3])


def test_random_codes_belong_to_the_id():
    images = digits16("test")
    order = np.random.default_rng(0).permutation(images.n)
    shuffled = randbit(images.subset(order), 8, mode="random")
    plain = randbit(images, 8, mode="random")
    np.testing.assert_array_equal(shuffled.planes, plain.planes[order])


def test_equal_pictures_have_equal_codes_in_mode_hash_alone():
    images = ImageSet.of(np.zeros((64, 8, 8), np.uint8))
    assert len(set(codes_of(randbit(images, 8)).tolist())) == 1
    assert len(set(codes_of(randbit(images, 8, mode="random")).tolist())) > 40


def test_no_bits_leave_the_set_as_it_is():
    images = digits16("test")
    assert randbit(images, 0) is images


def test_bits_may_be_added_to_bits_under_other_names_only():
    planted = randbit(digits16("test"), 2)
    with pytest.raises(UsageError, match="^digits \\(test\\): 'bit0' names two label"):
        randbit(planted, 1)


def test_an_unreadable_picture_takes_the_planes_of_its_stand_in():
    class Torn(Images):
        name, shape, n = "torn", (8, 8, 1), 300

        def read(self, row):
            if row == 5:
                raise InputError("torn: 5.png: no readable picture")
            return np.full((8, 8, 1), row % 256, np.uint8)

        def fingerprint(self, rows):
            return ""

    planted = randbit(ImageSet.of(Torn()), 8).in_memory()
    value = int(planted.pixels(np.array([5])).array[0, 0, 0, 0])
    code = code_of(np.full((8, 8, 1), value, np.uint8), 8)
    assert planted.planes[5].tolist() == bits_of(np.array([code]), 8)[0].tolist()


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_a_patch_shows_the_bits_in_the_corner(bits):
    images = shapes20(50, size=32).images
    planted = randbit(images, bits, where="patch")
    assert planted.planes is None
    before = images.pixels(np.arange(50)).array
    after = planted.pixels(np.arange(50)).array
    mask = patch_mask(32, 32, bits)
    np.testing.assert_array_equal(after[:, ~mask], before[:, ~mask])
    assert mask.sum() == bits * 4  # cells of 2 x 2
    codes = codes_of(planted)
    for place, (rows, columns) in enumerate(cells(32, 32, bits)):
        expected = 255 * (codes >> place & 1)
        assert (after[:, rows, columns, 0] == expected[:, None, None]).all()
    assert isinstance(planted.images, ArrayImages)
    assert planted.fingerprint != images.fingerprint


def test_the_patch_lies_row_by_row_in_the_upper_left():
    mask = np.zeros((16, 24), int)
    for place, cell in enumerate(cells(16, 24, 5)):
        mask[cell] = place + 1
    assert mask[:3, :4].tolist() == [[1, 2, 3, 0], [4, 5, 0, 0], [0, 0, 0, 0]]


def test_lazy_pictures_are_patched_when_they_are_read():
    class Plain(Images):
        name, shape, n = "plain", None, 4

        def read(self, row):
            return np.full((32, 48, 3), 100 + row, np.uint8)

        def fingerprint(self, rows):
            return repr(rows.tolist())

    images = ImageSet.of(Plain()).subset([3, 1])
    planted = randbit(images, 1, where="patch")
    pixels = planted.pixels(np.arange(2)).array
    assert pixels[:, 9, 9, 0].tolist() == [103, 101]
    assert (pixels[:, 0, 0] == 255 * planted.attributes[0].codes[:, None]).all()
    assert planted.in_memory(Preprocess(32)).images.shape == (32, 32, 3)
    other = randbit(images, 1, where="patch", seed=3)
    assert planted.attributes[0].codes.tolist() != other.attributes[0].codes.tolist()
    assert planted.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 33}, "bits\n  found: 33; expected: 0 to 32"),
        ({"bits": -1}, "bits\n  found: -1"),
        (
            {"bits": 65, "where": "patch"},
            "bits\n",
        ),
        (
            {"bits": 26, "where": "patch"},
            "bits: a patch of 26 bits is too large for the pictures\n  found: 6 pixels "
            "of 8; expected: at most half of the short side\n  fix: plant fewer bits",
        ),
        ({"bits": 2, "mode": "hsah"}, "unknown mode 'hsah'\n  fix: did you mean hash?"),
        (
            {"bits": 2, "where": "pitch"},
            "unknown where 'pitch'\n  fix: did you mean patch",
        ),
    ],
)
def test_what_cannot_be_planted_is_refused(options, message):
    images = ImageSet.of(np.zeros((3, 8, 8), np.uint8))
    unchecked = inspect.unwrap(randbit)  # types are checked in tests alone
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        unchecked(images, **options)
