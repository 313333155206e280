"""The planted data in every form, size and shape that a metric must stand.

`VARIANTS` names them; each is made, and its ingredients derived, once for all metrics.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from repscope.data.levels import Level
from repscope.metrics.ingredients import Ingredients
from repscope.metrics.labelled_ingredients import LabelledIngredients, Supply
from repscope.representations.class_moments import ClassMoments
from repscope.representations.moments import Moments
from repscope.representations.object_moments import ObjectMoments
from repscope.representations.representation import Representation
from repscope.theory import planted

N, D, VIEWS = 240, 24, 3
SCALES = (3.0, 1e-20, 1e-8, 1e8, 1e20)
SIGNED_SCALES = (1e-20, 1e20)
EXTREMES = (1e-300, 1e-160, 1e150, 1e300)
OFFSETS = (1e2, 1e4, 1e6)


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What a user has: features, two label levels, an attribute, views, a second set.

    Args:
        features: (n, d) array or tensor.
        views: (n, q, d).
        other: (n, d).
        occluded: (n, d) of the same images, partly blanked.
        turned: (n,) how each image was turned.
        fine, coarse, colour: (n,) codes.
        is_test: (n,); None for the split by ids.
        ids: (n,).
    """

    features: object
    views: object
    other: object
    occluded: object
    turned: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    colour: np.ndarray
    is_test: np.ndarray | None
    ids: np.ndarray

    def take(self, rows: np.ndarray) -> "Data":
        """Return some rows with all that belongs to them."""
        given = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        return Data(**{k: None if v is None else v[rows] for k, v in given.items()})

    def mapped(self, change: Callable, *, other: bool = False) -> "Data":
        """Return data with features and views changed, the second set too if asked."""
        return dataclasses.replace(
            self,
            features=change(self.features),
            views=change(self.views),
            occluded=change(self.occluded),
            other=change(self.other) if other else self.other,
        )

    def supply(self, *, as_they_are: bool = False) -> Supply:
        """Return the ingredients of these data, extreme ones rescaled unless asked."""
        representation = Representation.of(
            self.features,
            labels={"fine": self.fine, "coarse": self.coarse},
            attributes={"colour": self.colour},
            ids=self.ids,
            split=self.is_test,
        )
        given = {"occluded": self.occluded, "transformations": self.turned}
        if as_they_are:
            base = Ingredients(representation, self.views, self.other, given=given)
        else:
            base = Ingredients.of(
                representation, views=self.views, other=self.other, given=given
            )
        return Supply.of(base)


def planted_data(n: int = N, d: int = D, *, seed: int = 0) -> Data:
    """Return sound features that a probe reads well, but not perfectly."""
    one = planted.sound(n, d, n_classes=3, noise=3.0, seed=seed)
    generator = np.random.default_rng(seed + 17)
    noise = generator.standard_normal((n, VIEWS, d))
    turned = generator.integers(0, 2, n)
    coarse = one.labels["coarse"]
    return Data(
        features=one.features,
        views=one.features[:, None, :] + 0.3 * noise,
        other=one.features[:, ::-1] + turned[:, None] + noise[:, 1],
        occluded=one.features + 0.5 * noise[:, 0],
        turned=turned,
        fine=one.labels["fine"],
        coarse=coarse,
        colour=(coarse + generator.integers(0, 2, n)) % 3,
        is_test=np.arange(n) % 4 == 0,
        ids=np.arange(n) * 7 + 3,
    )


# --- forms: what an array may look like ---------------------------------------------

TYPES = ("float16", "float32", "int8", "uint8", "bool")


def as_type(name: str) -> Data:
    """Return the data in another type, with different values of that type."""
    data = planted_data()
    middle = np.median(data.features)

    def change(array: np.ndarray) -> np.ndarray:
        if name == "bool":
            return array > middle
        if name in ("int8", "uint8"):
            low = -100 if name == "int8" else 0
            return np.clip(np.round(16 * array), low, 120).astype(name)
        return array.astype(name)

    return data.mapped(change, other=True)


def as_double(data: Data) -> Data:
    """Return the same numbers as plain float64 arrays."""

    def change(array: object) -> np.ndarray:
        if isinstance(array, torch.Tensor):
            return array.double().numpy()
        return np.ascontiguousarray(array, dtype=np.float64)

    return data.mapped(change, other=True)


def read_only_map(array: np.ndarray) -> np.ndarray:
    """Return the array as a file mapped into memory, read-only."""
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "array.npy", array)
    mapped = np.load(folder / "array.npy", mmap_mode="r")
    (folder / "array.npy").unlink()
    folder.rmdir()
    return mapped


def _strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]))
    wide[..., ::2] = array
    return wide[..., ::2]


LAYOUTS: Mapping[str, Callable[[np.ndarray], object]] = {
    "big-endian": lambda array: array.astype(">f8"),
    "Fortran": np.asfortranarray,
    "non-contiguous": _strided,
    "reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
    "read-only": read_only_map,
    "tensor": torch.from_numpy,
}


def _bfloat16() -> Data:
    return planted_data().mapped(
        lambda array: torch.from_numpy(array).to(torch.bfloat16), other=True
    )


# --- numbers: what features may hold ------------------------------------------------


def _shifted(offset: float) -> Data:
    """Return data whose mean lies many deviations away."""
    data = planted_data()
    shift = _shift_of(offset)
    return data.mapped(lambda array: array + shift)


def _shift_of(offset: float) -> np.ndarray:
    deviation = planted_data().features.std()
    return offset * deviation * np.linspace(0.5, 1.5, D)


def _unshifted(offset: float) -> Data:
    # Exact: what the sum has lost to rounding is lost here too.
    return _shifted(offset).mapped(lambda array: array - _shift_of(offset))


def _rotated() -> Data:
    generator = np.random.default_rng(5)
    rotation = np.linalg.qr(generator.standard_normal((D, D)))[0]
    return planted_data().mapped(lambda array: array @ rotation)


def _twice() -> Data:
    rows = np.arange(N)
    doubled = planted_data().take(np.concatenate([rows, rows]))
    return dataclasses.replace(doubled, ids=np.arange(2 * N))


def _permuted(name: str) -> Data:
    order = np.random.default_rng(3).permutation(N)
    return variant(name).take(order)


def _signed() -> Data:
    data = planted_data()
    mean = data.features.mean(axis=0)
    centred = data.mapped(lambda array: array - mean)
    return dataclasses.replace(centred, is_test=None)


def _outlier_dimension() -> Data:
    factors = np.ones(D)
    factors[5] = 1e4
    return planted_data().mapped(lambda array: array * factors)


def _outlier_row() -> Data:
    data = planted_data().take(np.arange(N))
    data.features[7] *= 1e4
    data.views[7] *= 1e4
    data.occluded[7] *= 1e4
    return data


def _with(features: np.ndarray) -> Data:
    """Return the planted labels with other features."""
    n, d = features.shape
    data = planted_data(n, max(d, 4))
    noise = np.random.default_rng(23).standard_normal((n, VIEWS, d))
    views = features[:, None, :] + 0.1 * features.std() * noise
    occluded = features + 0.3 * features.std() * noise[:, 0]
    return dataclasses.replace(data, features=features, views=views, occluded=occluded)


def _noise(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(11).standard_normal((n, d))


def _constant() -> np.ndarray:
    return np.full((N, D), 3.7)


SPECTRA: Mapping[str, Callable[[], np.ndarray]] = {
    "identity": lambda: planted.with_exact_spectrum(N, np.ones(D)),
    "rank 1": lambda: np.outer(_noise(N, 1), np.linspace(-1, 2, D)),
    "rank 3": lambda: _noise(N, 3) @ _noise(3, D),
    "power law .5": lambda: planted.power_law(N, D, 0.5),
    "power law 2": lambda: planted.power_law(N, D, 2.0),
    "repeated eigenvalues": lambda: planted.with_exact_spectrum(
        N, np.repeat([4.0, 1.0, 0.25], D // 3)
    ),
    "constant and tiny noise": lambda: _constant() + 1e-9 * _noise(N, D),
    "constant and rounding": lambda: _constant() + 1e-16 * _noise(N, D),
    "constant": _constant,
    "zero": lambda: np.zeros((N, D)),
    "one row apart": lambda: _constant() + (np.arange(N) == 4)[:, None] * 1.0,
    "equal rows by class": lambda: np.eye(6)[planted_data().fine] @ _noise(6, D),
    "d > n": lambda: planted.sound(40, 64, n_classes=3).features,
    "d = 1": lambda: _noise(N, 1),
    "d = 2": lambda: _noise(N, 2),
    "negative": lambda: -1 - np.abs(_noise(N, D)),
}

FEW: Mapping[str, Callable[[], Data]] = {
    **{f"n = {n}": functools.partial(planted_data, n) for n in (1, 2, 3, 5, 9)},
    "one class": lambda: dataclasses.replace(
        planted_data(),
        fine=np.zeros(N, dtype=int),
        coarse=np.zeros(N, dtype=int),
        colour=np.zeros(N, dtype=int),
    ),
    "a class for each row": lambda: dataclasses.replace(
        planted_data(), fine=np.arange(N)
    ),
    "a class of one row": lambda: dataclasses.replace(
        planted_data(),
        fine=np.where(
            np.arange(N) == 3, 6 + planted_data().coarse, planted_data().fine
        ),
    ),
    "no subclasses": lambda: dataclasses.replace(
        planted_data(), fine=planted_data().coarse
    ),
    "unequal classes": lambda: planted_data().take(
        np.flatnonzero((planted_data().fine == 0) | (np.arange(N) % 9 == 0))
    ),
}


def _few_rows(make: Callable[[], Data]) -> Data:
    data = make()
    sides = 0 if data.is_test is None else len(np.unique(data.is_test))
    return data if sides == 2 else dataclasses.replace(data, is_test=None)


VARIANTS: Mapping[str, Callable[[], Data]] = {
    "plain": planted_data,
    "split by ids": lambda: dataclasses.replace(planted_data(), is_test=None),
    **{name: functools.partial(as_type, name) for name in TYPES},
    "bfloat16": _bfloat16,
    **{
        f"{name} as float64": functools.partial(lambda n: as_double(variant(n)), name)
        for name in (*TYPES, "bfloat16")
    },
    **{
        name: functools.partial(lambda c: planted_data().mapped(c, other=True), change)
        for name, change in LAYOUTS.items()
    },
    **{
        f"times {c:g}": functools.partial(
            lambda c: planted_data().mapped(lambda array: array * c), c
        )
        for c in (*SCALES, *EXTREMES)
    },
    **{f"plus {k:g}": functools.partial(_shifted, k) for k in OFFSETS},
    **{f"plus and minus {k:g}": functools.partial(_unshifted, k) for k in OFFSETS},
    "rotated": _rotated,
    "twice": _twice,
    "signed": _signed,
    **{
        f"{name}, permuted": functools.partial(_permuted, name)
        for name in ("split by ids", "signed")
    },
    **{
        f"signed, times {c:g}": functools.partial(
            lambda c: _signed().mapped(lambda array: array * c), c
        )
        for c in SIGNED_SCALES
    },
    "outlier dimension": _outlier_dimension,
    "outlier row": _outlier_row,
    **{
        name: functools.partial(lambda make: _with(make()), make)
        for name, make in SPECTRA.items()
    },
    **{name: functools.partial(_few_rows, make) for name, make in FEW.items()},
}


@functools.cache
def variant(name: str) -> Data:
    """Return the planted data in the form that `VARIANTS` calls so."""
    return VARIANTS[name]()


@functools.cache
def supply(name: str) -> Supply:
    """Return the ingredients of a variant, derived once for all metrics."""
    return variant(name).supply()


@functools.cache
def merged_supply() -> Supply:
    """Return ingredients whose sums come from three shards, one of them a single row.

    Each shard's state went through bytes, as between machines.
    """
    data = variant("plain")
    whole = data.supply()
    base = whole.base
    parts = [slice(0, 1), slice(1, 150), slice(150, N)]
    total, objects = Moments(D), ObjectMoments(D)
    for part in parts:
        own = Moments(D).update(data.features[part])
        total.merge(Moments.from_bytes(own.to_bytes()))
        # Objects are known by their ids, so that views of one may come apart.
        ids = data.ids[part].tolist()
        seen = ObjectMoments(D).update_views(data.views[part], ids)
        objects.merge(ObjectMoments.from_bytes(seen.to_bytes()))
    base.__dict__.update(total=total, objects=objects)
    for labels in (*whole.levels, *whole.attributes):
        moments = ClassMoments(labels.n_classes, D)
        for part in parts:
            own = ClassMoments(labels.n_classes, D)
            moments.merge(own.update(data.features[part], labels.labels[part]))
        labels.__dict__.update(moments=moments)
    return whole


@functools.cache
def twice_answered() -> Supply:
    """Return ingredients of all rows twice, with the answers of the plain data."""
    twice = variant("twice").supply()
    plain = supply("plain")
    pairs = zip(
        (*twice.levels, *twice.attributes),
        (*plain.levels, *plain.attributes),
        strict=True,
    )
    for labels, once in pairs:
        for name in ("linear", "nearest_centre"):
            result = getattr(once, name)
            labels.__dict__[name] = dataclasses.replace(
                result,
                predictions=np.tile(result.predictions, 2),
                margins=np.tile(result.margins, 2),
            )
        views = once.view_predictions
        labels.__dict__["view_predictions"] = np.concatenate([views, views])
    return twice


@functools.cache
def with_an_empty_class() -> Supply:
    """Return ingredients of the plain data whose levels know a class without rows."""
    whole = variant("plain").supply()
    levels = [_with_empty(one) for one in whole.levels]
    attributes = [_with_empty(one) for one in whole.attributes]
    # A level's parent is the level above it, empty class included.
    above = [*(one.level for one in levels[1:]), None]
    return Supply(
        whole.base,
        tuple(
            dataclasses.replace(one, above=coarse)
            for one, coarse in zip(levels, above, strict=True)
        ),
        tuple(attributes),
    )


def _with_empty(labels: LabelledIngredients) -> LabelledIngredients:
    level = labels.level
    known = Level(level.name, level.codes, (*level.classes, "of no row"))
    return dataclasses.replace(labels, level=known)
