import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from references.torchvision_operators import torchvision_or_skip
from repscope._arrays import fingerprint
from repscope._checking import InputError
from repscope._randomness import Purpose, sample_keys
from repscope.data.autoaugment import (
    LEFT_OUT,
    OPERATIONS,
    POLICY_TABLES,
    SIGNED,
    magnitudes_of,
)
from repscope.data.draws import (
    CROP_TRIES,
    Draw,
    draw_boxes,
    draw_jitter,
    draw_parameters,
    draw_places,
    draw_policy,
    rows_of,
)
from repscope.data.operations import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)

N = 20_000
# Of a test that repeats itself, a probability below this is no accident.
NO_ACCIDENT = 1e-3
# Of every draw of 1,000 images; see the last test.
GOLDEN = "7d98a39421ed0743"
GOLDEN_POLICY = "51cb53dfdeddc343"
EVERYTHING = (
    RandomResizedCrop(32),
    HorizontalFlip(0.5),
    ColorJitter(0.4, 0.6, 1.5, 0.1, p=0.8),
    Grayscale(0.2),
    GaussianBlur(3, (0.1, 2.0), p=0.3),
    Solarize(p=0.1),
)


def keys(n=N, seed=0, epoch=0, view=0):
    return sample_keys(
        Purpose.AUGMENTATION,
        seed,
        np.arange(n, dtype=np.uint64),
        epoch=epoch,
        view=view,
    )


def every_array(record):
    """Yield name and values of each draw of a record, nested ones included."""
    for name, value in vars(record).items():
        if isinstance(value, np.ndarray):
            yield name, value
        elif value is not None:
            yield from every_array(value)


def test_each_purpose_has_numbers_of_its_own():
    tries = range(CROP_TRIES)
    taken = [base + one for base in (Draw.CROP_AREA, Draw.CROP_RATIO) for one in tries]
    taken += [one for one in Draw if one not in (Draw.CROP_AREA, Draw.CROP_RATIO)]
    assert len(set(taken)) == len(taken) == 2 * CROP_TRIES + len(Draw) - 2


@pytest.mark.parametrize(
    ("name", "p"),
    [("flipped", 0.5), ("jittered", 0.8), ("greyed", 0.2), ("blurred", 0.3),
     ("solarised", 0.1)],
)  # fmt: skip
def test_operations_come_as_often_as_they_should(name, p):
    happened = getattr(draw_parameters(keys(), EVERYTHING, 32, 32), name)
    assert stats.binomtest(int(happened.sum()), N, p).pvalue > NO_ACCIDENT


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_never_is_never_and_always_is_always(p):
    assert (draw_parameters(keys(), [Grayscale(p)], 32, 32).greyed == bool(p)).all()


def test_what_a_view_does_not_have_never_happens():
    found = draw_parameters(keys(50), [], 7, 9)
    for name in ("flipped", "jittered", "greyed", "blurred", "solarised"):
        assert not getattr(found, name).any()
    boxes = found.boxes
    assert (boxes.top == 0).all()
    assert (boxes.left == 0).all()
    assert (boxes.height == 7).all()
    assert (boxes.width == 9).all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("brightness", 0.6, 1.4),
        ("contrast", 0.4, 1.6),
        ("saturation", 0.0, 2.5),  # cut off at 0 below
        ("hue", -0.1, 0.1),
    ],
)
def test_factors_are_uniform(name, low, high):
    values = getattr(draw_jitter(keys(), EVERYTHING[2]), name)
    assert low <= values.min()
    assert values.max() <= high
    assert stats.kstest(values, "uniform", (low, high - low)).pvalue > NO_ACCIDENT


def test_blur_is_uniform():
    sigma = draw_parameters(keys(), EVERYTHING, 32, 32).sigma
    assert stats.kstest(sigma, "uniform", (0.1, 1.9)).pvalue > NO_ACCIDENT


def test_all_orders_are_as_likely():
    counts = np.bincount(draw_jitter(keys(), EVERYTHING[2]).order, minlength=24)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > NO_ACCIDENT


def test_area_and_shape_of_boxes_that_always_fit():
    # 1,000 pixels, so that rounding is small; the largest side is 730 of them.
    boxes = draw_boxes(keys(), RandomResizedCrop(8, (0.2, 0.4)), 1000, 1000)
    areas, shapes = boxes.width * boxes.height / 1e6, boxes.width / boxes.height
    assert stats.kstest(areas, "uniform", (0.2, 0.2)).pvalue > NO_ACCIDENT
    low, high = np.log([3 / 4, 4 / 3])
    shapes = np.log(shapes)
    assert stats.kstest(shapes, "uniform", (low, high - low)).pvalue > NO_ACCIDENT
    assert abs(np.corrcoef(areas, shapes)[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize(("start", "length"), [("top", "height"), ("left", "width")])
def test_boxes_lie_anywhere(start, length):
    boxes = draw_boxes(keys(), RandomResizedCrop(8, (0.2, 0.4)), 24, 24)
    starts, lengths = getattr(boxes, start), getattr(boxes, length)
    common = np.bincount(lengths).argmax()
    counts = np.bincount(starts[lengths == common], minlength=25 - common)
    assert len(counts) == 25 - common
    assert stats.chisquare(counts).pvalue > NO_ACCIDENT


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(32, 32, (0.08, 1.0)), (20, 50, (0.2, 1.0)), (64, 48, (0.6, 1.0))],
)
def test_boxes_are_distributed_as_torchvision_s(height, width, scale):
    torchvision_or_skip()
    import torch
    from torchvision.transforms import RandomResizedCrop as Reference

    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = np.array(
        [Reference.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(6000)]
    )
    boxes = draw_boxes(keys(), RandomResizedCrop(8, scale), height, width)
    ours = np.stack([boxes.top, boxes.left, boxes.height, boxes.width], 1)
    for column in range(4):
        same = stats.ks_2samp(ours[:, column], theirs[:, column])
        assert same.pvalue > NO_ACCIDENT, column
    areas = ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]
    assert stats.ks_2samp(*areas).pvalue > NO_ACCIDENT


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        # wider than 4:3: the middle of full height, 10 * 4 / 3 wide
        (10, 100, (0, 43, 10, 13)),
        # narrower than 3:4: the middle of full width, 10 / (3 / 4) high
        (100, 10, (43, 0, 13, 10)),
    ],
)
def test_where_no_box_fits_the_middle_is_taken(height, width, box):
    found = draw_boxes(keys(20), RandomResizedCrop(8, (0.9, 1.0)), height, width)
    rows = zip(found.top, found.left, found.height, found.width, strict=True)
    assert {tuple(int(one) for one in row) for row in rows} == {box}


def test_where_no_box_fits_and_the_shape_does_all_is_taken():
    crop = RandomResizedCrop(8, (1.0, 1.0), ratio=(0.5, 2.0))
    found = draw_boxes(keys(500), crop, 5, 5)
    assert (found.height == 5).all()  # only a square box of the whole area fits
    assert (found.width == 5).all()


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.01, 1.0),
    st.floats(0.01, 1.0),
    st.floats(0.1, 10.0),
    st.floats(0.1, 10.0),
)
def test_boxes_stay_inside(height, width, one, other, narrow, wide):
    crop = RandomResizedCrop(
        4,
        scale=(min(one, other), max(one, other)),
        ratio=(min(narrow, wide), max(narrow, wide)),
    )
    boxes = draw_boxes(keys(40), crop, height, width)
    assert (boxes.top >= 0).all()
    assert (boxes.left >= 0).all()
    assert (boxes.height >= 1).all()
    assert (boxes.width >= 1).all()
    assert (boxes.top + boxes.height <= height).all()
    assert (boxes.left + boxes.width <= width).all()


def test_places_of_a_crop_are_uniform_and_in_the_border():
    boxes = draw_places(keys(), RandomCrop(32, 4), 32, 34)
    for starts, last in ((boxes.top, 4), (boxes.left, 6)):
        counts = np.bincount(starts + 4, minlength=last + 5)
        assert len(counts) == last + 5
        assert stats.chisquare(counts).pvalue > NO_ACCIDENT
    assert (boxes.height == 32).all()
    assert (boxes.width == 32).all()


def test_a_crop_that_just_fits_has_one_place():
    boxes = draw_places(keys(50), RandomCrop(20, 2), 16, 16)
    assert (boxes.top == -2).all()
    assert (boxes.left == -2).all()
    with pytest.raises(InputError, match="crop of 21 x 21\\n  found: 16 x 30 and a bo"):
        draw_places(keys(50), RandomCrop(21, 2), 16, 30)


def test_every_pair_of_a_policy_is_as_likely_and_done_as_often_as_it_should():
    found = draw_policy(keys(100_000), AutoAugment(), 32, 32)
    # Of operation and magnitude, all pairs of the table that have them add up.
    for turn in range(2):
        expected = {LEFT_OUT: 0.0}
        for pair in POLICY_TABLES["cifar10"]:
            name, p, _ = pair[turn]
            code = OPERATIONS.index(name)
            expected[code] = expected.get(code, 0) + p / 25
            expected[LEFT_OUT] += (1 - p) / 25
        codes, counts = np.unique(found.operations[:, turn], return_counts=True)
        possible = {code: p for code, p in expected.items() if p > 0}
        assert set(codes) == set(possible)
        theirs = np.array([possible[code] for code in codes]) * 100_000
        assert stats.chisquare(counts, theirs).pvalue > NO_ACCIDENT


def test_the_two_operations_of_a_policy_are_drawn_apart():
    # The second pair of rotation and translation: done 0.7 x 0.3 of the time together.
    found = draw_policy(keys(100_000), AutoAugment(), 32, 32)
    rotated = found.operations[:, 0] == OPERATIONS.index("Rotate")
    moved = found.operations[:, 1] == OPERATIONS.index("TranslateX")
    together = int((rotated & moved).sum())
    p = 0.7 * 0.3 / 25
    assert stats.binomtest(together, 100_000, p).pvalue > NO_ACCIDENT


def test_magnitudes_are_as_often_negative_where_they_have_a_sign():
    found = draw_policy(keys(), AutoAugment(), 32, 48)
    for turn in range(2):
        for code in range(len(OPERATIONS)):
            values = found.magnitudes[found.operations[:, turn] == code, turn]
            name = OPERATIONS[code]
            assert set(np.abs(values)) <= set(magnitudes_of(name, 32, 48))
            negative = int((values < 0).sum())
            if name not in SIGNED:
                assert negative == 0
            elif len(values) and np.abs(values).max() > 0:
                n = int((values != 0).sum())
                assert stats.binomtest(negative, n, 0.5).pvalue > NO_ACCIDENT


def test_a_policy_sees_the_size_of_the_crop():
    operations = (RandomCrop(16, 2), AutoAugment())
    found = draw_parameters(keys(500), operations, 32, 32).policy
    expected = draw_policy(keys(500), AutoAugment(), 16, 16)
    np.testing.assert_array_equal(found.magnitudes, expected.magnitudes)
    assert draw_parameters(keys(5), operations[:1], 32, 32).policy is None


def test_draws_do_not_depend_on_one_another():
    crop = RandomResizedCrop(8, (0.2, 0.4))
    found = draw_parameters(keys(), (crop, *EVERYTHING[1:]), 1000, 1000)
    values = dict(every_array(found))
    # Height and width share their area, and an offset has less room in a large box.
    values["top"] = values["top"] / (1001 - values["height"])
    values["left"] = values["left"] / (1001 - values["width"])
    values["area"] = values["height"] * values.pop("width")
    del values["height"]
    correlations = np.corrcoef(np.stack(list(values.values())).astype(float))
    off = correlations[~np.eye(len(values), dtype=bool)]
    assert len(values) == 14
    assert np.abs(off).max() < 5 / np.sqrt(N)


def test_no_two_draws_of_epochs_samples_and_views_are_equal():
    sigmas = [
        draw_parameters(keys(1000, seed, epoch, view), EVERYTHING, 32, 32).sigma
        for seed in (0, 1)
        for epoch in range(3)
        for view in range(2)
    ]
    assert len(np.unique(np.concatenate(sigmas))) == 2 * 3 * 2 * 1000


@pytest.mark.parametrize("rows", [slice(3, 17), np.array([40, 2, 2, 31])], ids=str)
def test_some_of_the_images_get_the_same_draws(rows):
    everything = (*EVERYTHING, AutoAugment())
    some = draw_parameters(keys(50)[rows], everything, 32, 32)
    whole = rows_of(draw_parameters(keys(50), everything, 32, 32), rows)
    for (name, ours), (_, theirs) in zip(
        every_array(some), every_array(whole), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_draws_have_not_changed():
    # Views of old runs can be made again only while this holds. Rounded, since the last
    # digits of exp and log are the machine's.
    found = draw_parameters(keys(1000, seed=7, epoch=3, view=1), EVERYTHING, 32, 40)
    codes = {
        name: fingerprint(np.round(values.astype(float), 6))
        for name, values in every_array(found)
    }
    assert fingerprint([f"{name} {code}" for name, code in codes.items()]) == GOLDEN, (
        codes
    )


def test_draws_of_a_policy_have_not_changed():
    found = draw_policy(keys(1000, seed=7, epoch=3, view=1), AutoAugment(), 32, 40)
    codes = [
        fingerprint(found.operations),
        fingerprint(np.round(found.magnitudes, 4)),
    ]
    assert fingerprint(codes) == GOLDEN_POLICY
