"""Pictures keep what is known of them; what cannot be read is replaced and listed."""

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest

from repscope._checking import InputError, UsageError
from repscope._images import Preprocess, fit
from repscope.data.images import ArrayImages, Images
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level
from repscope.data.reading import Failure, check_failures


def numbered(n, side=4):
    """Return n pictures whose pixels all say their number."""
    array = np.zeros((n, side, side, 1), np.uint8)
    array[:] = np.arange(n).reshape(n, 1, 1, 1)
    return array


class BrokenImages(Images):
    """Numbered pictures, some of which cannot be read."""

    name = "broken"
    shape = None

    def __init__(self, n, broken=(), side=4):
        self.array, self.broken, self.looks = numbered(n, side), set(broken), Counter()

    @property
    def n(self):
        return len(self.array)

    def read(self, row):
        self.looks[row] += 1
        if row in self.broken:
            raise InputError(f"broken: {row}.png: no readable picture (cut)")
        return self.array[row]

    def fingerprint(self, rows):
        return ",".join(map(str, rows))


def labelled(n=12):
    fine = np.arange(n) % 4
    return ImageSet.of(
        numbered(n),
        labels={"fine": fine, "coarse": np.array(["even", "odd"])[fine % 2]},
        attributes={"half": (np.arange(n) >= n // 2).astype(int)},
        ids=[f"img{k}" for k in range(n)],
    )


def test_a_set_knows_what_it_was_given():
    images = labelled()
    assert (images.n, images.channels, images.n_planes) == (12, 1, 0)
    assert images.labels["fine"].tolist() == [0, 1, 2, 3] * 3
    assert images.labels["coarse"].tolist() == ["even", "odd"] * 6
    assert images.level().name == "fine"
    assert images.level("half").classes == ("0", "1")
    assert repr(images) == (
        "ImageSet('images', 12 pictures: fine (4), coarse (2), attribute half)"
    )


def test_ids_are_row_numbers_and_labels_none_unless_given():
    images = ImageSet.of(numbered(3))
    assert images.ids.tolist() == [0, 1, 2]
    assert images.labels == {}
    assert ImageSet.of(numbered(3), labels=[7, 5, 7]).labels["label"].tolist() == [
        *(7, 5, 7)
    ]


def test_classes_are_numbers_only_where_all_of_them_are():
    n = {"one": ["1", "01", "2"], "two": ["1", "-1", "2"], "three": ["1", "2", "x"]}
    images = ImageSet.of(numbered(3), attributes=n)
    assert images.with_levels(["two"]).labels["two"].tolist() == [1, -1, 2]
    assert images.with_levels(["one"]).labels["one"].tolist() == ["1", "01", "2"]
    assert images.with_levels(["three"]).labels["three"].tolist() == ["1", "2", "x"]


def test_a_level_keeps_its_codes_and_takes_the_name():
    level = Level("z", np.array([1, 0, 1]), ("dog", "cat"))
    images = ImageSet.of(numbered(3), labels={"animal": level})
    assert images.levels[0].name == "animal"
    assert images.labels["animal"].tolist() == ["cat", "dog", "cat"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": [1, 2]}, InputError, "labels 'label': one entry per row"),
        (
            {"labels": {"a": [1, 1, 2, 2], "b": [1, 2, 2, 2]}},
            InputError,
            "label levels ",
        ),
        ({"ids": ["a", "b", "a", "c"]}, InputError, "images: the id 'a' comes 2 times"),
        ({"ids": [1, 2]}, InputError, "ids: one entry per row of images is needed"),
        (
            {"labels": {"a": [1, 1, 2, 2]}, "attributes": {"a": [1, 1, 2, 2]}},
            UsageError,
            "images: 'a' names two label levels or attributes\n  fix: rename",
        ),
        (
            {"labels": {"a": Level("a", np.array([0, 2, 0, 1]), ("x", "y"))}},
            InputError,
            "labels 'a': codes without a class\n  found: 0 to 2; expected: 0 to 1",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        ImageSet.of(numbered(4), **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.png", "images: no pictures\n  found: an object of type str"),
        (3, "images: no pictures\n  found: an object of type int"),
        (iter([]), "images: no pictures\n  found: an object of type list_iterator"),
        (
            {"train": [], "test": []},
            "images: a dictionary\n  found: 'train', 'test'\n  fix: pass one of its",
        ),
        ([], "images: there are no pictures"),
    ],
)
def test_what_holds_no_pictures_is_refused(given, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        ImageSet.of(given)


def test_rows_must_be_pictures_of_the_source():
    images = labelled()
    with pytest.raises(InputError, match="^images: there is no row 12\n.*0 to 11"):
        dataclasses.replace(images, rows=images.rows + 1)


def test_a_subset_keeps_order_codes_and_pixels():
    images = labelled().subset([5, 2, 9])
    assert images.ids.tolist() == ["img5", "img2", "img9"]
    assert images.labels["fine"].tolist() == [1, 2, 1]
    assert images.levels[0].n_classes == 4
    assert images.pixels(np.arange(3)).array[:, 0, 0, 0].tolist() == [5, 2, 9]
    again = images.subset(np.array([False, True, True]))
    assert again.pixels(np.array([1, 0])).array[:, 0, 0, 0].tolist() == [9, 2]
    assert again.keys.tolist() == labelled().keys[[2, 9]].tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([12], "images: there is no row 12\n  expected: 0 to 11"),
        ([-1], "images: there is no row -1"),
        (np.ones(2), "images: rows are whole numbers\n  found: values of type float64"),
        ([1, 1], "images: the id 'img1' comes 2 times"),
        ([], "images: there are no pictures"),
        (np.ones(5, bool), "rows: one entry per row of images"),
    ],
)
def test_a_subset_of_other_rows_is_refused(rows, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        labelled().subset(rows)


def skewed():
    labels = np.repeat([0, 1, 2], [500, 60, 5])
    return ImageSet.of(np.zeros((565, 2, 2), np.uint8), labels=labels)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(90, [30, 30, 5]), (6, [2, 2, 2]), (1, [1, 1, 1]), (10**9, [500, 60, 5])],
)
def test_balanced_takes_as_many_of_each_class(n, expected):
    few = skewed().balanced(n)
    assert np.bincount(few.levels[0].codes).tolist() == expected
    assert (np.diff(few.rows) > 0).all()


def test_balanced_chooses_by_id_and_seed_alone():
    images = skewed()
    ids = {*images.balanced(60).ids.tolist()}
    shuffled = images.subset(np.random.default_rng(0).permutation(565))
    assert {*shuffled.balanced(60).ids.tolist()} == ids
    assert {*images.balanced(60, seed=1).ids.tolist()} != ids
    # A larger choice holds the smaller one.
    assert {*images.balanced(90).ids.tolist()} > ids


def test_balanced_by_another_level_or_without_labels():
    images = labelled(400)
    by_half = images.balanced(10, level="half")
    assert np.bincount(by_half.level("half").codes).tolist() == [5, 5]
    plain = ImageSet.of(numbered(400)).balanced(13)
    assert plain.n == 13
    # Spread over the set: the mean of 13 of 400 uniform numbers, within 4 deviations.
    assert abs(plain.rows.mean() - 200) < 4 * 400 / np.sqrt(12 * 13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n: pictures to keep\n  found: 0"),
        ({"n": 5, "level": "hafl"}, "unknown level 'hafl'\n  fix: did you mean half?"),
    ],
)
def test_balanced_refuses_what_cannot_be(options, message):
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        labelled().balanced(**options)


def test_of_classes_leaves_no_others_behind():
    images = labelled().of_classes(["3", "1"])
    assert images.labels["fine"].tolist() == [1, 3] * 3
    assert images.levels[0].classes == ("1", "3")
    assert images.levels[1].classes == ("odd",)
    assert labelled().of_classes(["odd"], level="coarse").n == 6
    with pytest.raises(UsageError, match="^'coarse' has no class 'evne'\n.*even"):
        labelled().of_classes(["evne"], level="coarse")
    with pytest.raises(UsageError, match="^images: there are no labels\n"):
        ImageSet.of(numbered(2)).of_classes(["1"])


def test_levels_are_chosen_by_name_and_stay_nested():
    images = labelled()
    only = images.with_levels(["coarse"])
    assert [*only.labels] == ["coarse"]
    assert [one.name for one in only.attributes] == ["half"]
    assert images.with_levels([]).levels == ()
    with pytest.raises(InputError, match="^label levels are not nested: class 'even'"):
        images.with_levels(["coarse", "fine"])
    with pytest.raises(UsageError, match="^unknown level 'course'\n.*coarse"):
        images.with_levels(["course"])


def test_the_fingerprint_tells_sets_apart():
    images = labelled()
    assert images.fingerprint == labelled().fingerprint
    pixels = numbered(12)
    pixels[3, 0, 0, 0] += 1
    planes = np.zeros((12, 1), np.uint8)
    others = [
        dataclasses.replace(images, images=ArrayImages(pixels)),
        dataclasses.replace(images, ids=images.ids[::-1]),
        dataclasses.replace(images, levels=images.levels[:1]),
        dataclasses.replace(images, attributes=()),
        dataclasses.replace(images, planes=planes),
        dataclasses.replace(images, planes=planes + np.uint8(1)),
        images.subset(np.arange(11)),
    ]
    assert len({images.fingerprint, *(one.fingerprint for one in others)}) == 8


def test_the_fingerprint_does_not_depend_on_codes_or_storage():
    images = labelled()
    level = images.levels[0]
    turned = Level("fine", 3 - level.codes, level.classes[::-1])
    same = dataclasses.replace(images, levels=(turned, images.levels[1]))
    assert same.fingerprint == images.fingerprint
    part = images.subset(np.arange(4, 8))
    moved = dataclasses.replace(
        part, images=ArrayImages(numbered(12)[4:8]), rows=np.arange(4)
    )
    assert moved.fingerprint == part.fingerprint


def test_pixels_are_fitted_one_by_one():
    array = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    preprocess = Preprocess(12, 16, interpolation="bicubic", channels=1)
    pixels = ImageSet.of(array).pixels(np.array([4, 0]), preprocess)
    assert pixels.good.all()
    assert pixels.failures == ()
    expected = [fit(array[4], preprocess), fit(array[0], preprocess)]
    np.testing.assert_array_equal(pixels.array, expected)


def test_pixels_of_the_right_size_are_copies():
    images = labelled()
    for preprocess in (None, Preprocess(4, channels=1)):
        pixels = images.pixels(np.arange(12), preprocess).array
        np.testing.assert_array_equal(pixels, numbered(12))
        pixels[:] = 99
    np.testing.assert_array_equal(images.pixels(np.arange(12)).array, numbered(12))
    assert images.pixels(np.arange(2), Preprocess(4)).array.shape == (2, 4, 4, 3)
    assert images.pixels(np.arange(0)).array.shape == (0, 4, 4, 1)


def test_pictures_of_several_sizes_need_a_preprocess():
    class Mixed(BrokenImages):
        def read(self, row):
            return super().read(row)[: 1 + row % 2]

    images = ImageSet.of(Mixed(4))
    with pytest.raises(
        InputError,
        match=r"^images: pictures differ in size\n  found: \(1, 4, 1\) and, at 1, "
        r"\(2, 4, 1\)\n  fix: give a preprocess",
    ):
        images.pixels(np.arange(4))
    assert images.pixels(np.arange(4), Preprocess(1)).array.shape == (4, 1, 1, 3)
    with pytest.raises(InputError, match="^images: pictures differ in size"):
        images.in_memory()


BROKEN = (7, 100, 150)


def broken_set(n=200, broken=BROKEN):
    return ImageSet.of(BrokenImages(n, broken), ids=[f"{k}.png" for k in range(n)])


def test_another_picture_stands_in_and_is_listed():
    images = broken_set()
    pixels = images.pixels(np.arange(200))
    assert np.flatnonzero(~pixels.good).tolist() == [*BROKEN]
    assert [one.row for one in pixels.failures] == [*BROKEN]
    first = pixels.failures[0]
    assert (first.id, first.reason) == (
        "7.png",
        "broken: 7.png: no readable picture (cut)",
    )
    for one in pixels.failures:
        assert one.replaced_by not in BROKEN
        assert pixels.array[one.row, 0, 0, 0] == one.replaced_by
    assert len({one.replaced_by for one in pixels.failures}) == len(BROKEN)
    good = pixels.good
    assert pixels.array[good, 0, 0, 0].tolist() == np.arange(200)[good].tolist()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_stand_ins_do_not_depend_on_threads_batches_or_order(threads, monkeypatch):
    expected = {
        one.row: one.replaced_by for one in broken_set().pixels(np.arange(200)).failures
    }
    assert len(expected) == len(BROKEN)
    monkeypatch.setattr("repscope.data.reading.MAXIMUM_THREADS", threads)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    images = broken_set()
    order = np.random.default_rng(threads).permutation(200)
    found = {}
    for start in range(0, 200, 30):
        for one in images.pixels(order[start : start + 30]).failures:
            found[one.row] = one.replaced_by
    assert found == expected


def test_a_stand_in_that_cannot_be_read_either_is_passed_over():
    # With 9 of 10 broken, the first choice is mostly broken too.
    images = broken_set(10, broken=range(1, 10))
    pixels = images.pixels(np.arange(10))
    assert (pixels.array == 0).all()
    assert {one.replaced_by for one in pixels.failures} == {0}


def test_nothing_readable_at_all_is_an_error():
    message = "images: 3.png cannot be read, nor can what should stand in for it (broke"
    with pytest.raises(InputError, match="^" + re.escape(message)):
        broken_set(10, broken=range(10)).pixels(np.array([3]))


def test_each_picture_is_read_once():
    source = BrokenImages(50)
    ImageSet.of(source).pixels(np.arange(50))
    assert source.looks == dict.fromkeys(range(50), 1)


def test_in_memory_replaces_picture_labels_and_planes_alike():
    images = dataclasses.replace(
        ImageSet.of(
            BrokenImages(250, [20, 30]),
            labels=np.arange(250),
            attributes={"parity": np.arange(250) % 2},
        ),
        planes=(np.arange(250)[:, None] % 7).astype(np.uint8),
    )
    kept = images.in_memory()
    assert isinstance(kept.images, ArrayImages)
    shown = kept.pixels(np.arange(250)).array[:, 0, 0, 0]
    assert kept.labels["label"].tolist() == shown.tolist()
    assert kept.attributes[0].codes.tolist() == (shown % 2).tolist()
    assert kept.planes[:, 0].tolist() == (shown % 7).tolist()
    assert kept.ids.tolist() == list(range(250))
    assert [one.row for one in kept.failures] == [20, 30]
    assert [one.id for one in kept.subset(np.arange(25, 40)).failures] == ["30"]


def test_more_than_one_in_a_hundred_stops():
    with pytest.raises(
        InputError,
        match=r"^images: broken: 7.png: no readable picture \(cut\), and 2 more\n"
        "  found: 3 unreadable of 200 pictures; expected: at most 1 % of 200\n",
    ):
        broken_set().in_memory()
    assert len(broken_set().in_memory(allowed_failures=0.015).failures) == 3


@pytest.mark.parametrize(("n", "fails"), [(1, True), (99, True), (100, False)])
def test_failures_are_weighed_against_what_was_read(n, fails):
    one = [Failure(0, "a", "a.png: an empty picture")]
    if not fails:
        check_failures("photos", one, n)
        return
    with pytest.raises(InputError, match="^photos: a.png: an empty picture\n"):
        check_failures("photos", one, n)


@pytest.mark.parametrize(
    ("preprocess", "limit", "fits"),
    [
        (Preprocess(2), 10 * 2 * 2 * 3, True),
        (Preprocess(2), 10 * 2 * 2 * 3 - 1, False),
        (Preprocess(2, channels=1), 10 * 2 * 2, True),
        (None, 10 * 4 * 4, True),
        (None, 10 * 4 * 4 - 1, False),
    ],
)
def test_what_does_not_fit_into_memory_stays_where_it_is(preprocess, limit, fits):
    images = ImageSet.of(BrokenImages(10))
    kept = images.in_memory(preprocess, limit_bytes=limit)
    assert (kept is not images) == fits
    assert isinstance(kept.images, ArrayImages) == fits


def test_in_memory_does_nothing_twice():
    images = labelled()
    assert images.in_memory() is images
    assert images.in_memory(Preprocess(4, channels=1)) is images
    assert images.in_memory(Preprocess(4)).images.shape == (4, 4, 3)
    assert images.in_memory(Preprocess(2, channels=1)).images.shape == (2, 2, 1)


def test_channels_are_those_of_the_first_picture_that_can_be_read():
    assert ImageSet.of(BrokenImages(9, [0, 1])).channels == 1
    assert ImageSet.of(BrokenImages(9, range(9))).channels == 3
