"""Planted shortcuts: random bits that are easy to see and say nothing of the class.

An encoder that is trained to tell pictures apart may read the bits and stop looking at
the rest. The bits are attributes of the set that is returned, so that what the encoder
learned of them, and lost for them, can be measured.
"""

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int, UInt8

from repscope._arrays import fingerprint
from repscope._checking import InputError, UsageError, check_choice
from repscope._randomness import Purpose, sample_keys, uniform
from repscope.data.images import ArrayImages, Images
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level

MAXIMUM_BITS = 32
# The side of a bit's cell in a corner patch, as a share of the picture's.
CELL_SHARE = 1 / 16
# The draw of a picture's hash that decides its code.
_CODE = 0

Mode = Literal["hash", "random", "balanced"]
Where = Literal["channel", "patch"]


def randbit(
    images: ImageSet,
    bits: int,
    *,
    seed: int = 0,
    mode: Mode = "hash",
    where: Where = "channel",
) -> ImageSet:
    """Return the set with a random code of some bits planted in each picture.

    Bit j is (code >> j) & 1. Both views of a picture carry the same bits: planes are
    appended after augmentation, which cannot remove them. A patch is part of the pixels
    instead, and a crop may cut it off.

    Args:
        images: to plant them in.
        bits: from 0 (the set as it is) to 32.
        seed: another seed gives other codes.
        mode: "hash": the code is a hash of the picture's pixels, modulo 2^bits, so that
            train and test pictures need no common state, and equal pictures have equal
            codes; "random": of its id; "balanced": each code as often as any other, in
            the set and in each class of the finest level.
        where: "channel": each bit becomes one constant plane, 0 or 1; "patch": bits are
            white or black cells in the upper left corner.

    Returns:
        The set, with the attributes "bit0", "bit1", ...

    Raises:
        UsageError: for an unknown mode or place, too many bits, or a picture that is
            too small for the patch.

    Source: Chen, Luo, Li 2021, "Intriguing properties of contrastive losses"
        (their MNIST with bits); Xue et al. 2023, "Which features are learnt by
        contrastive learning?".
    Differs from the source in hashing the decoded pixels (BLAKE2b, first 8 bytes as a
    little-endian number) in place of the encoded file.

    Example:
        >>> randbit(ImageSet.of(np.zeros((1, 8, 8), np.uint8)), 3).n_planes
        3
    """
    check_choice("mode", mode, get_args(Mode))
    check_choice("where", where, get_args(Where))
    if not 0 <= bits <= MAXIMUM_BITS:
        found = str(bits)
        raise UsageError("bits", found=found, expected=f"0 to {MAXIMUM_BITS}")
    if bits == 0:
        return images
    codes = {"hash": _hashed, "random": _drawn, "balanced": _balanced}[mode](
        images, bits, seed
    )
    planes = bits_of(codes, bits)
    planted = dataclasses.replace(
        images, attributes=images.attributes + _as_attributes(planes)
    )
    if where == "channel":
        joint = [planes] if images.planes is None else [images.planes, planes]
        return dataclasses.replace(planted, planes=np.concatenate(joint, axis=1))
    patched = PatchedImages(images.images, images.rows, planes)
    if patched.shape is not None:
        cells(*patched.shape[:2], bits)  # refuses what is too small at once
    planted = dataclasses.replace(planted, images=patched, rows=np.arange(images.n))
    return planted.in_memory() if isinstance(images.images, ArrayImages) else planted


def bits_of(codes: Int[np.ndarray, " n"], bits: int) -> UInt8[np.ndarray, "n b"]:
    """Return the lowest bits of each code, the lowest first."""
    return ((codes[:, None] >> np.arange(bits)) & 1).astype(np.uint8)


def code_of(pixels: UInt8[np.ndarray, "h w c"], bits: int, *, seed: int = 0) -> int:
    """Return the code of a picture: a hash of its pixels, modulo 2^bits.

    Args:
        pixels: the picture, as it is stored.
        bits: of the code.
        seed: salts the hash; 0 adds nothing.
    """
    salt = (seed % 2**64).to_bytes(8, "little")
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=8, salt=salt).digest()
    return int.from_bytes(digest, "little") % 2**bits


def _hashed(images: ImageSet, bits: int, seed: int) -> Int[np.ndarray, " n"]:
    codes = np.zeros(images.n, dtype=np.int64)
    for place, row in enumerate(images.rows.tolist()):
        try:
            codes[place] = code_of(images.images.read(row), bits, seed=seed)
        except InputError:
            # Another picture will stand in for it, with its own code.
            continue
    return codes


def _drawn(images: ImageSet, bits: int, seed: int) -> Int[np.ndarray, " n"]:
    draws = uniform(sample_keys(Purpose.SHORTCUT, seed, images.keys), _CODE)
    return np.floor(draws * 2**bits).astype(np.int64)


def _balanced(images: ImageSet, bits: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return codes that go round within each class, in a random order."""
    draws = uniform(sample_keys(Purpose.SHORTCUT, seed, images.keys), _CODE)
    classes = images.levels[0].codes if images.levels else np.zeros(images.n)
    codes = np.empty(images.n, dtype=np.int64)
    codes[np.lexsort((draws, classes))] = np.arange(images.n) % 2**bits
    return codes


def _as_attributes(planes: UInt8[np.ndarray, "n b"]) -> tuple[Level, ...]:
    return tuple(
        Level(f"bit{place}", plane.astype(np.int64), ("0", "1"))
        for place, plane in enumerate(planes.T)
    )


@dataclass(frozen=True, eq=False)
class PatchedImages(Images):
    """Pictures with cells of black and white in their upper left corner.

    Args:
        images: without them.
        rows: (n,) rows of those.
        bits: (n, b) 1 for white.
    """

    images: Images
    rows: Int[np.ndarray, " n"]
    bits: UInt8[np.ndarray, "n b"]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the pictures without patches."""
        return self.images.name

    @property
    def shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """The shape of the pictures without patches."""
        return self.images.shape

    @property
    def n(self) -> int:
        """How many pictures there are."""
        return len(self.rows)

    def read(self, row: int) -> UInt8[np.ndarray, "h w c"]:
        """Return one picture with its patch.

        Raises:
            InputError: where it cannot be read.
            UsageError: where it is too small for the patch.
        """
        pixels = self.images.read(int(self.rows[row])).copy()
        height, width, _ = pixels.shape
        for place, cell in enumerate(cells(height, width, self.bits.shape[1])):
            pixels[cell] = 255 * self.bits[row, place]
        return pixels

    def fingerprint(self, rows: Int[np.ndarray, " m"]) -> str:
        """Return a hash of the pictures and of their bits."""
        own = [self.images.fingerprint(self.rows[rows]), fingerprint(self.bits[rows])]
        return fingerprint(own)


def patch_mask(height: int, width: int, bits: int) -> Bool[np.ndarray, "h w"]:
    """Return where a patch of some bits lies: True inside it.

    Raises:
        UsageError: where the picture is too small.
    """
    mask = np.zeros((height, width), dtype=bool)
    for cell in cells(height, width, bits):
        mask[cell] = True
    return mask


def cells(height: int, width: int, bits: int) -> tuple[tuple[slice, slice], ...]:
    """Return the rows and columns of each bit's cell, row by row from the corner.

    A cell is a square of 1/16 of the short side, at least one pixel; as many stand side
    by side as make the patch nearly square.

    Raises:
        UsageError: where the patch is more than half as high or wide as the picture.
    """
    short = min(height, width)
    side = max(1, int(short * CELL_SHARE))
    columns = math.ceil(math.sqrt(bits))
    if 2 * columns * side > short:
        raise UsageError(
            f"bits: a patch of {bits} bits is too large for the pictures",
            found=f"{columns * side} pixels of {short}",
            expected="at most half of the short side",
            fix='plant fewer bits, or where="channel"',
        )
    corners = [divmod(bit, columns) for bit in range(bits)]
    return tuple(
        (slice(y * side, (y + 1) * side), slice(x * side, (x + 1) * side))
        for y, x in corners
    )
