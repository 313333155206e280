"""Arrays come in many kinds; their values, hashes and fingerprints do not change."""

import hashlib
import re

import numpy as np
import pytest
import torch

from repscope import _arrays as arrays
from repscope._checking import InputError

VALUES = [[0, 1, 2], [1, 0, 1]]
MASK_64 = 2**64 - 1


def features_of_kind(kind, folder):
    small = np.array(VALUES)
    if kind == "fortran":
        return np.asfortranarray(small, dtype=np.float32)
    if kind == "strided":
        return np.repeat(small, 2, axis=1)[:, ::2].astype(np.float64)[::-1][::-1]
    if kind == "readonly memmap":
        np.save(folder / "f.npy", small.astype(np.float32))
        return np.load(folder / "f.npy", mmap_mode="r")
    if kind == "lists":
        return VALUES
    if kind == "matrix":
        return small.view(np.matrix)
    if kind == "bfloat16":
        return torch.tensor(VALUES, dtype=torch.bfloat16)
    if kind == "torch":
        return torch.tensor(VALUES)
    if kind == "bool":
        return small.astype(bool)
    return small.astype(kind)


KINDS = [
    *("f2", "f4", "f8", ">f2", ">f4", ">f8", "i1", "u1", "i8", ">i2", "u8"),
    *("fortran", "strided", "readonly memmap", "lists", "matrix", "torch", "bfloat16"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_keeps_its_values(kind, tmp_path):
    matrix = arrays.as_matrix(features_of_kind(kind, tmp_path))
    doubled = arrays.host(arrays.as_double(matrix))
    assert type(doubled) is np.ndarray or isinstance(doubled, np.memmap)
    assert doubled.dtype == np.float64
    assert doubled.dtype.isnative
    assert doubled.shape == (2, 3)
    np.testing.assert_array_equal(np.asarray(doubled), VALUES)


def test_booleans_count_as_zero_and_one():
    matrix = arrays.as_matrix(np.array(VALUES, dtype=bool))
    np.testing.assert_array_equal(arrays.as_double(matrix), np.array(VALUES) > 0)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            np.zeros(3),
            "emb: one row of features per sample is needed\n"
            "  found: an array of shape (3,); expected: two dimensions (n samples, "
            "d features)\n  fix: flatten or pool to (n, d) first",
        ),
        (torch.zeros(2, 3, 4), "emb: one row of features per sample is needed"),
        (5.0, "emb: one row of features per sample is needed"),
        (
            np.zeros((0, 3)),
            "emb: there is nothing to measure\n"
            "  found: shape (0, 3); expected: at least one row and one column",
        ),
        (np.zeros((3, 0)), "emb: there is nothing to measure"),
        (
            np.array([["a", "b"]]),
            "emb: features must be real numbers\n  found: values of type <U1; "
            "expected: floating-point, integer or boolean values",
        ),
        (np.array([[1.0, None]]), "emb: features must be real numbers"),
        (np.array([[1j]]), "emb: features must be real numbers"),
        (torch.tensor([[1j]]), "emb: features must be real numbers"),
        (
            [[1.0, 2.0], [3.0]],
            "emb: rows of different lengths\n"
            "  expected: the same number of features in every row",
        ),
        (
            np.ma.masked_array([[1.0, 2.0]], [[True, False]]),
            "emb: some entries are masked",
        ),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(features, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        arrays.as_matrix(features, "emb")


def test_the_way_to_the_host_copies_nothing_on_the_cpu():
    array, tensor = np.zeros(3), torch.zeros(3, requires_grad=True)
    assert arrays.host(array) is array
    arrays.host(tensor)[0] = 7
    assert tensor[0] == 7


def test_bfloat16_reaches_the_host_as_float32():
    values = arrays.host(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert values.dtype == np.float32
    assert values.tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros(1), False),
        (torch.zeros(1), False),
        (torch.zeros(1, device="meta"), True),
    ],
)
def test_device_is_anything_but_the_cpu(array, expected):
    assert arrays.is_on_device(array) is expected


def test_float64_is_not_copied():
    array = np.zeros((2, 2))
    assert arrays.as_double(array) is array


def split_mix(state):
    """The finaliser of SplitMix64 on Python integers."""
    state = (state + 0x9E3779B97F4A7C15) & MASK_64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK_64
    return state ^ (state >> 31)


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        (
            0,
            [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
        ),
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
    ],
)
def test_mix_gives_the_published_stream_of_split_mix(seed, published):
    counters = [
        (seed + k * 0x9E3779B97F4A7C15) & MASK_64 for k in range(len(published))
    ]
    mixed = arrays.mix(np.array(counters, dtype=np.uint64))
    assert mixed.tolist() == published


def test_mix_takes_any_shape_and_sign_and_leaves_its_input():
    values = np.array([[-1, 0], [2**62, -(2**63)]])
    before = values.copy()
    mixed = arrays.mix(values)
    expected = [[split_mix(v & MASK_64) for v in row] for row in values.tolist()]
    assert mixed.tolist() == expected
    np.testing.assert_array_equal(values, before)


def test_id_hashes_are_the_same_on_every_machine():
    words = ["a", "", "naïve", "\udc80"]
    expected = []
    for word in words:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8)
        code = int.from_bytes(digest.digest(), "little")
        expected.append(split_mix(code ^ split_mix(3)))
    assert arrays.hash_ids(np.array(words), seed=3).tolist() == expected
    assert arrays.hash_ids(np.array([5]), seed=0).tolist() == [
        split_mix(5 ^ split_mix(0))
    ]


def test_id_hashes_ignore_position_and_integer_width():
    ids = np.arange(-50, 50)
    order = np.random.default_rng(0).permutation(100)
    whole = arrays.hash_ids(ids)
    np.testing.assert_array_equal(arrays.hash_ids(ids[order]), whole[order])
    np.testing.assert_array_equal(arrays.hash_ids(ids.astype(np.int8)), whole)


def test_another_seed_gives_unrelated_bits():
    ids = np.arange(20_000)
    differing = arrays.hash_ids(ids, 0) ^ arrays.hash_ids(ids, 1)
    bits = np.unpackbits(differing.view(np.uint8)).mean()
    # 1.28 million fair bits: one standard deviation is .0004.
    assert abs(bits - 0.5) < 0.002


@pytest.mark.parametrize("modulus", [2, 5, 20])
def test_consecutive_ids_fall_evenly(modulus):
    buckets = arrays.hash_ids(np.arange(100_000)) % np.uint64(modulus)
    share = np.bincount(buckets.astype(int)) / 100_000
    # One standard deviation of a share is at most .0016.
    assert np.abs(share - 1 / modulus).max() < 0.006


def test_equal_rows_have_equal_hashes():
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    order = np.random.default_rng(1).integers(0, 50, 200)
    hashes = arrays.hash_rows(rows)
    np.testing.assert_array_equal(arrays.hash_rows(rows[order]), hashes[order])


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "i4", "u1"])
def test_row_hashes_depend_on_values_not_on_storage(kind):
    rows = np.random.default_rng(0).integers(0, 100, (40, 9))
    expected = arrays.hash_rows(rows.astype(np.float64))
    np.testing.assert_array_equal(arrays.hash_rows(rows.astype(kind)), expected)
    fortran = np.asfortranarray(rows.astype(kind))
    np.testing.assert_array_equal(arrays.hash_rows(fortran), expected)


def test_negative_zero_is_zero_and_the_input_stays():
    rows = np.array([[-0.0, 1.0], [0.0, 1.0]])
    hashes = arrays.hash_rows(rows)
    assert hashes[0] == hashes[1]
    assert np.signbit(rows[0, 0])


def different_rows(kind):
    generator = np.random.default_rng(0)
    if kind == "half floats":
        return generator.standard_normal((100_000, 8)).astype(np.float16)
    if kind == "all binary rows":
        return (np.arange(2**15)[:, None] >> np.arange(15)) & 1
    if kind == "one hot":
        return np.eye(2000)
    if kind == "one hot, two sizes":
        return np.concatenate([np.eye(1000), 2 * np.eye(1000), -np.eye(1000)])
    if kind == "exchanged columns":
        return generator.permuted(np.tile(np.arange(12.0), (50_000, 1)), axis=1)
    if kind == "pixel pairs":
        return np.stack(np.divmod(np.arange(2**16), 256), axis=1)
    return np.nextafter(1.0, 2.0) ** np.arange(3000)[:, None]


@pytest.mark.parametrize(
    "kind",
    [
        *("half floats", "all binary rows", "one hot", "one hot, two sizes"),
        *("exchanged columns", "pixel pairs", "neighbouring doubles"),
    ],
)
def test_different_rows_do_not_collide(kind):
    rows = np.unique(different_rows(kind), axis=0)
    assert len(np.unique(arrays.hash_rows(rows))) == len(rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1, 2]), np.array([2, 1])),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (["ab", "c"], ["a", "bc"]),
        (np.array(["a", "b"]), np.array(["a", "c"])),
        (np.array([1.0]), np.array([1.0 + 2.0**-52])),
    ],
)
def test_fingerprint_tells_values_apart(one, other):
    assert arrays.fingerprint(one) != arrays.fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (np.arange(4, dtype=">i4"), np.arange(4, dtype="<i4")),
        (np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int64)),
        (np.array(["a", "bc"]), np.array(["a", "bc"], dtype=object)),
        (np.array(["a", "bc"]), ["a", "bc"]),
    ],
)
def test_fingerprint_of_equal_values_is_equal_however_stored(one, other):
    assert arrays.fingerprint(one) == arrays.fingerprint(other)
