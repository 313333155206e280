"""Rows to pixels: in threads, fitted, with a stand-in for what cannot be read.

Which picture stands in is a hash of the unreadable one's id: it does not depend on
batches, threads or the order of reading.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8, UInt64

from repscope._checking import InputError
from repscope._images import Preprocess, fit, with_channels
from repscope._randomness import Purpose, sample_keys, uniform
from repscope.data.images import ArrayImages, Images

# Share of the pictures that may be unreadable before a run stops.
ALLOWED_FAILURES = 0.01
# Where a caller can allow more.
ALLOW_FIX = (
    ", or allow a larger share: --allow-unreadable 0.1 (allowed_failures=0.1 in Python)"
)
# Decoding scales to few threads; more only hold memory.
MAXIMUM_THREADS = 8
# Stand-ins that are tried before a set counts as unreadable.
STAND_INS = 32

# From a place among those asked for, and its picture, to arrays of one shape each.
Make = Callable[[int, UInt8[np.ndarray, "h w c"]], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read.

    Args:
        row: its row in the set that was read.
        id: what the set calls it.
        reason: why it could not be read.
        replaced_by: the row whose picture stands in; None where it was left out.
    """

    row: int
    id: str
    reason: str
    replaced_by: int | None = None


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pictures as one array.

    Args:
        array: (m, h, w, c).
        failures: those that could not be read, in the order of the rows asked for.
        good: (m,) False where another picture stands in.
    """

    array: UInt8[np.ndarray, "m h w c"]
    failures: tuple[Failure, ...]
    good: Bool[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Made:
    """What was made of pictures, one row for each.

    Args:
        arrays: as many as are made of a picture.
        failures: those that could not be read, in the order of the rows asked for.
        good: (m,) False where another picture stands in.
    """

    arrays: tuple[UInt8[np.ndarray, "m ..."], ...]
    failures: tuple[Failure, ...]
    good: Bool[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Reader:
    """What reading needs to know of a set.

    Args:
        images: where pixels come from.
        name: of the set, for errors.
        rows: (n,) the row of each picture in `images`.
        ids: (n,) what the set calls each.
        keys: (n,) a hash of each id.
    """

    images: Images
    name: str
    rows: Int[np.ndarray, " n"]
    ids: Shaped[np.ndarray, " n"]
    keys: UInt64[np.ndarray, " n"]

    def pixels(
        self, chosen: Int[np.ndarray, " m"], preprocess: Preprocess | None
    ) -> Pixels:
        """Return the chosen pictures; another stands in for one that is unreadable.

        Raises:
            InputError: where pictures differ in size and there is no preprocess, or
                none of those that should stand in can be read.
        """
        if isinstance(self.images, ArrayImages) and is_fit(self.images, preprocess):
            array = self.images.array[self.rows[chosen]]
            if preprocess is not None:
                array = with_channels(array, preprocess.channels)
            return Pixels(array, (), np.ones(len(chosen), dtype=bool))

        def fitted(_: int, pixels: UInt8[np.ndarray, "h w c"]) -> tuple[np.ndarray]:
            return (pixels if preprocess is None else fit(pixels, preprocess),)

        made = self.made(chosen, fitted)
        none = np.empty((0, 0, 0, 0), dtype=np.uint8)
        array = made.arrays[0] if made.arrays else none
        return Pixels(array, made.failures, made.good)

    def made(self, chosen: Int[np.ndarray, " m"], make: Make) -> Made:
        """Return what is made of the chosen pictures, several at once in threads.

        Args:
            chosen: rows of the set.
            make: is given the place among `chosen`, also of a picture that another
                stands in for, and the picture that can be read.

        Raises:
            InputError: where what is made differs in shape, or none of the pictures
                that should stand in for another can be read.
        """
        good = np.ones(len(chosen), dtype=bool)
        reasons: dict[int, str] = {}
        arrays: list[np.ndarray] = []
        for place, one in enumerate(self._read(chosen, make)):
            if isinstance(one, InputError):
                good[place], reasons[place] = False, one.what
                continue
            self._put(arrays, place, one, chosen, int(chosen[place]))
        failures = []
        for place, reason in reasons.items():
            row = int(chosen[place])
            stand_in, one = self._stand_in(row, reason, place, make)
            self._put(arrays, place, one, chosen, stand_in)
            failures.append(Failure(row, str(self.ids[row]), reason, stand_in))
        return Made(tuple(arrays), tuple(failures), good)

    def _read(
        self, chosen: Int[np.ndarray, " m"], make: Make
    ) -> Iterator[tuple[np.ndarray, ...] | InputError]:
        """Yield what is made of each picture, or why it cannot be read, in order."""

        def one(place: int) -> tuple[np.ndarray, ...] | InputError:
            try:
                return self._make_one(int(chosen[place]), place, make)
            except InputError as error:
                return error

        places = range(len(chosen))
        threads = min(MAXIMUM_THREADS, os.cpu_count() or 1, len(chosen))
        if not self.images.parallel or threads < 2:
            yield from map(one, places)
            return
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(one, places)

    def _make_one(self, row: int, place: int, make: Make) -> tuple[np.ndarray, ...]:
        return make(place, self.images.read(int(self.rows[row])))

    def _stand_in(
        self, row: int, reason: str, place: int, make: Make
    ) -> tuple[int, tuple[np.ndarray, ...]]:
        """Return the first of a fixed sequence of rows that can be read."""
        key = sample_keys(Purpose.STAND_IN, 0, self.keys[row : row + 1])
        for draw in range(STAND_INS):
            candidate = int(uniform(key, draw)[0] * len(self.rows))
            try:
                return candidate, self._make_one(candidate, place, make)
            except InputError:
                continue
        raise InputError(
            f"{self.name}: {self.ids[row]} cannot be read, nor can what should stand in"
            f" for it ({reason})",
            expected="pictures, nearly all of them readable",
        )

    def _put(
        self,
        arrays: list[np.ndarray],
        place: int,
        one: tuple[np.ndarray, ...],
        chosen: Int[np.ndarray, " m"],
        row: int,
    ) -> None:
        """Put what was made of a row into its place; the first decides the shapes."""
        if not arrays:
            n = len(chosen)
            arrays += [np.empty((n, *part.shape), dtype=np.uint8) for part in one]
        for array, part in zip(arrays, one, strict=True):
            if part.shape != array.shape[1:]:
                raise InputError(
                    f"{self.name}: pictures differ in size",
                    found=f"{array.shape[1:]} and, at {self.ids[row]}, {part.shape}",
                    fix="give a preprocess with the size that all shall have",
                )
            array[place] = part


def is_fit(images: Images, preprocess: Preprocess | None) -> bool:
    """Return whether pictures have their size already, up to the number of channels."""
    if preprocess is None or images.shape is None:
        return preprocess is None and images.shape is not None
    height, width, _ = images.shape
    return height == width == preprocess.size == preprocess.short_side


def check_failures(
    name: str,
    failures: Sequence[Failure],
    n: int,
    *,
    allowed: float | None = None,
    n_read: int | None = None,
) -> None:
    """Raise InputError where too many of the pictures of a set are unreadable.

    Args:
        name: of the set.
        failures: all so far.
        n: pictures in the set, read or not.
        allowed: share of them that may fail; None is 1 in 100, which the caller cannot
            change.
        n_read: how many were read so far; None is all.

    Raises:
        InputError: naming the first and how many there are.
    """
    share = ALLOWED_FAILURES if allowed is None else allowed
    if len(failures) <= share * n:
        return
    first, others = failures[0], len(failures) - 1
    is_named = first.reason.startswith((f"{name}:", f"{name}/"))
    what = first.reason if is_named else f"{name}: {first.reason}"
    is_part = n_read is not None and n_read < n
    found = f"{len(failures):,} unreadable of {n:,} pictures"
    if is_part:
        found = f"at least {len(failures):,} unreadable of the first {n_read:,} read"
    raise InputError(
        what + (f", and {others:,} more" if others else ""),
        found=found,
        expected=f"at most {100 * share:.3g} % of {n:,}",
        fix="repair or remove them" + (ALLOW_FIX if allowed is not None else ""),
    )
