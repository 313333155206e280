"""What an array is here: shapes, namespace, the way to the host, stable hashes.

Functions from features to report take NumPy and torch arrays alike, through the array
API standard. Randomness is a hash of (seed, row id, draw): it needs no state, so that
neither batch size nor order can change it.
"""

import hashlib
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt64

from repscope._checking import InputError

# Array stands for a NumPy or torch array; names are those of the specification:
# n samples, d feature dimensions, c classes.
Array = Any
Features = Float[Array, "n d"]
Labels = Int[np.ndarray, " n"]
Scores = Float[Array, " n"]
Spectrum = Float[np.ndarray, " d"]

_REAL_NUMBERS = ("bool", "integral", "real floating")

_SPLITMIX_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_SPLITMIX_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SPLITMIX_SECOND = np.uint64(0x94D049BB133111EB)


def namespace(*arrays: Array) -> ModuleType:
    """Return the array API namespace that the arrays share."""
    return array_api_compat.array_namespace(*arrays)


def host(array: Array) -> np.ndarray:
    """Return a NumPy array; the one place where data leave a device.

    CPU tensors and NumPy arrays are not copied. bfloat16, which NumPy lacks, becomes
    float32.
    """
    if array_api_compat.is_torch_array(array):
        array = array.detach()
        if str(array.dtype) == "torch.bfloat16":
            array = array.float()
        return array.cpu().numpy()
    return np.asarray(array)


def is_on_device(array: Array) -> bool:
    """Return whether the array lives on an accelerator."""
    return (
        array_api_compat.is_torch_array(array)
        and str(array_api_compat.device(array)) != "cpu"
    )


def as_double(array: Array) -> Array:
    """Return the array as float64 on its own device; no copy where it is that."""
    xp = namespace(array)
    return xp.astype(array, xp.float64, copy=False)


def as_matrix(features: Array, name: str = "features") -> Array:
    """Return features as an (n, d) array of real numbers.

    Args:
        features: an array, a tensor or nested lists.
        name: what to call it in an error.

    Raises:
        InputError: where it has not two dimensions, no rows or columns, or no real
            numbers.
    """
    if not array_api_compat.is_array_api_obj(features):
        features = _from_lists(features, name)
    if getattr(features, "ndim", None) != 2:
        shape = tuple(getattr(features, "shape", ()))
        raise InputError(
            f"{name}: one row of features per sample is needed",
            found=f"an array of shape {shape}",
            expected="two dimensions (n samples, d features)",
            fix="flatten or pool to (n, d) first",
        )
    n, d = features.shape
    if n < 1 or d < 1:
        raise InputError(
            f"{name}: there is nothing to measure",
            found=f"shape ({n}, {d})",
            expected="at least one row and one column",
        )
    if not namespace(features).isdtype(features.dtype, _REAL_NUMBERS):
        raise InputError(
            f"{name}: features must be real numbers",
            found=f"values of type {features.dtype}",
            expected="floating-point, integer or boolean values",
        )
    if isinstance(features, np.ndarray):
        return _as_native(features, name)
    return features


def _from_lists(features: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(features)
    except ValueError as error:
        raise InputError(
            f"{name}: rows of different lengths",
            expected="the same number of features in every row",
        ) from error


def _as_native(features: np.ndarray, name: str) -> np.ndarray:
    if np.ma.is_masked(features):
        raise InputError(
            f"{name}: some entries are masked",
            expected="a plain array",
            fix="drop the masked rows, or fill them",
        )
    # Subclasses such as np.matrix multiply and reduce differently.
    return np.asarray(features, dtype=features.dtype.newbyteorder("="))


def mix(values: Shaped[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Return a well-mixed 64-bit hash of each integer (the finaliser of SplitMix64).

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators",
        Fig. 11.
    As in the source.

    Example:
        >>> hex(mix(np.array([0]))[0])
        '0xe220a8397b1dcdaf'
    """
    with np.errstate(over="ignore"):
        state = np.asarray(values).astype(np.uint64) + _SPLITMIX_INCREMENT
        state = (state ^ (state >> np.uint64(30))) * _SPLITMIX_FIRST
        state = (state ^ (state >> np.uint64(27))) * _SPLITMIX_SECOND
        return state ^ (state >> np.uint64(31))


def hash_ids(ids: Shaped[np.ndarray, " n"], seed: int = 0) -> UInt64[np.ndarray, " n"]:
    """Return one 64-bit hash per id, the same on every machine.

    Args:
        ids: integers or strings.
        seed: another seed gives an independent hash.
    """
    ids = np.asarray(ids)
    if ids.dtype.kind in "iub":
        codes = ids.astype(np.int64).view(np.uint64)
    else:
        digests = [
            hashlib.blake2b(str(one).encode("utf-8", "surrogatepass"), digest_size=8)
            for one in ids.tolist()
        ]
        codes = np.array(
            [int.from_bytes(digest.digest(), "little") for digest in digests], np.uint64
        )
    return mix(codes ^ mix(np.array([seed])))


def hash_rows(features: Shaped[np.ndarray, "n d"]) -> UInt64[np.ndarray, " n"]:
    """Return one 64-bit hash per row: equal rows have equal hashes.

    A multilinear hash of the rows' float64 bit patterns with fixed odd multipliers,
    mixed at the end; two different rows collide with a probability of about 2^-63.
    Negative zero counts as zero.
    """
    # + 0.0 turns -0.0 into 0.0
    bits = (np.ascontiguousarray(features, dtype=np.float64) + 0.0).view(np.uint64)
    multipliers = mix(np.arange(bits.shape[1])) | np.uint64(1)
    with np.errstate(over="ignore"):
        bits ^= bits >> np.uint64(32)  # low bits of short floats are all zero
        bits *= multipliers
        bits ^= bits >> np.uint64(29)
        return mix(bits.sum(axis=1, dtype=np.uint64))


def fingerprint(values: Shaped[np.ndarray, "..."] | list[str]) -> str:
    """Return a short fingerprint of an array's values, the same on every machine."""
    digest = hashlib.blake2b(digest_size=8)
    array = np.asarray(values)
    if array.dtype.kind in "US" or array.dtype == object:
        for value in array.ravel().tolist():
            text = str(value).encode("utf-8", "surrogatepass")
            digest.update(len(text).to_bytes(8, "little") + text)
    else:
        little_endian = (
            "<i8" if array.dtype.kind in "iub" else array.dtype.newbyteorder("<")
        )
        digest.update(np.ascontiguousarray(array, dtype=little_endian).tobytes())
    digest.update(repr(array.shape).encode())
    return digest.hexdigest()
