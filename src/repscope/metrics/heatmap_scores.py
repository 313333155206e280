"""Does a feature look at the object? Heatmaps against masks of the object."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped

from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.failure import wilson_interval
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.samples import mean_score

# The share of a heatmap's pixels that is compared with the mask.
TOP_SHARE = 0.2
# A feature's tag: core from this share of energy on the object, spurious up to that on
# what competes with it.
CORE_SHARE, SPURIOUS_SHARE = 0.5, 0.5

Heatmaps = Shaped[np.ndarray, "n h w"]
Masks = Shaped[np.ndarray, "m h2 w2"]
FeatureTag = Literal["core", "spurious", "noisy"]

_SOURCE = "Kalibhat et al. 2022, Section 5 (heatmaps of single features)"


def _checked(heatmaps: Heatmaps, masks: Masks) -> Float[np.ndarray, "n p"]:
    """Return the heatmaps as rows, those without energy left out by the caller."""
    if heatmaps.shape != masks.shape:
        raise InputError(
            "masks: one of the size of each heatmap is needed",
            found=f"shape {masks.shape}",
            expected=f"{heatmaps.shape}",
        )
    if masks.dtype != np.bool_:
        raise InputError(
            "masks: True and False are needed",
            found=f"values of type {masks.dtype}",
            fix="compare with a threshold, such as masks > 0",
        )
    rows = np.asarray(heatmaps, dtype=np.float64).reshape(len(heatmaps), -1)
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise InputError(
            "heatmaps: energies are needed",
            found="values below 0, NaN or infinity",
            expected="finite values from 0",
            fix="take the absolute value, or cut at 0",
        )
    # Shares of energy are of no unit: extreme ones are brought near 1 first.
    greatest = rows.max(axis=1, keepdims=True)
    return rows / np.where(greatest > 0, greatest, 1)


def _usable(rows: Float[np.ndarray, "n p"], masks: Bool[np.ndarray, "n p"]) -> tuple:
    usable = (rows.sum(axis=1) > 0) & masks.any(axis=1)
    if not usable.any():
        raise Undecidable("no heatmap with energy and an object")
    left_out = {"left_out": int((~usable).sum())}
    return rows[usable], masks[usable], left_out


def _mean(values: Float[np.ndarray, " n"], details: dict) -> Estimate:
    estimate = mean_score(values)
    known = {**estimate.details, **details}
    if estimate.interval is None:
        return Estimate(estimate.value, details=known)
    low, high = np.clip(estimate.interval, 0, 1).tolist()
    return Estimate(estimate.value, (low, high), known)


@metric(
    title="overlap of heatmap and object",
    formula="mean over images of |T ∩ M| / |T ∪ M|, T the fifth of the pixels with the "
    "most energy, M the object's mask",
    needs="heatmaps",
    range="[0, 1]; a heatmap of chance gives about a / (1 + 4 a) for a mask of share a",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    cost="O(n h w)",
    source=_SOURCE,
    misleads="objects of much more or less than a fifth of the image cannot reach 1",
)
def heatmap_core_overlap(
    heatmaps: Heatmaps, masks: Masks, *, top: float = TOP_SHARE
) -> Estimate:
    """Return the overlap of the brightest pixels with the object.

    Args:
        heatmaps: (n, h, w) energies, at least 0.
        masks: (n, h, w) True on the object.
        top: share of the pixels that counts as bright, above 0, at most 1; of equal
            ones the first.

    Returns:
        From 0 to 1; higher is better. Interval: normal over images. Details:
        `left_out`, images without energy or object.

    Raises:
        InputError: where shapes differ, or energies are negative or not finite.
        UsageError: where `top` is no share.
        Undecidable: where no image is left.

    Source: intersection over union (Jaccard 1912). As in the source.
    """
    if not 0 < top <= 1:
        raise UsageError("top: a share of pixels", found=f"{top}", expected="(0, 1]")
    rows, objects, left_out = _usable(
        _checked(heatmaps, masks), masks.reshape(len(masks), -1)
    )
    count = max(1, round(top * rows.shape[1]))
    order = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    bright = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(bright, order, values=True, axis=1)
    either = (bright | objects).sum(axis=1)
    return _mean((bright & objects).sum(axis=1) / either, left_out)


@metric(
    title="heatmap energy on the object",
    formula="mean over images of Σ energy in the mask / Σ energy",
    needs="heatmaps",
    range="[0, 1]; an even heatmap gives the mask's share of the image",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    cost="O(n h w)",
    source="Wang et al. 2020 (Score-CAM), energy-based pointing game",
    misleads="grows with the object: compare with `area`, the mask's share",
)
def heatmap_energy(heatmaps: Heatmaps, masks: Masks) -> Estimate:
    """Return the share of the heatmap's energy on the object.

    Args:
        heatmaps: (n, h, w) energies, at least 0.
        masks: (n, h, w) True on the object.

    Returns:
        From 0 to 1; higher is better. Interval: normal over images. Details: `area`,
        the mean share of the image that the masks take, and `left_out`.

    Raises:
        InputError: where shapes differ, or energies are negative or not finite.
        Undecidable: where no image is left.

    Source: Wang et al. 2020. As in the source.
    """
    rows, objects, left_out = _usable(
        _checked(heatmaps, masks), masks.reshape(len(masks), -1)
    )
    shares = energy_shares(rows, objects)
    return _mean(shares, {"area": float(objects.mean()), **left_out})


def energy_shares(
    rows: Float[np.ndarray, "n p"], masks: Bool[np.ndarray, "n p"]
) -> Float[np.ndarray, " n"]:
    """Return per heatmap the share of its energy where the mask is True."""
    return (rows * masks).sum(axis=1) / rows.sum(axis=1)


@metric(
    title="pointing game",
    formula="share of images whose brightest pixel lies on the object",
    needs="heatmaps",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    cost="O(n h w)",
    source="Zhang et al. 2018 (excitation backprop), Section 4.1",
    misleads="knows one pixel of each heatmap",
)
def pointing_game(heatmaps: Heatmaps, masks: Masks) -> Estimate:
    """Return the share of images whose brightest pixel lies on the object.

    Args:
        heatmaps: (n, h, w) energies, at least 0; of equal pixels the first counts.
        masks: (n, h, w) True on the object.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson. Details: `left_out`.

    Raises:
        InputError: where shapes differ, or energies are negative or not finite.
        Undecidable: where no image is left.

    Source: Zhang et al. 2018. Differs from the source in that no tolerance of 15 pixels
    is added to the mask.
    """
    rows, objects, left_out = _usable(
        _checked(heatmaps, masks), masks.reshape(len(masks), -1)
    )
    hits = int(objects[np.arange(len(rows)), rows.argmax(axis=1)].sum())
    interval = wilson_interval(hits, len(rows))
    return Estimate(hits / len(rows), interval, {"interval": "Wilson", **left_out})


@metric(
    title="energy on the object over energy on what competes",
    formula="Σ energy in the core masks / Σ energy in the spurious masks, each heatmap "
    "of energy 1",
    needs="heatmaps",
    range="[0, ∞); above 1 the object wins",
    bounds=(0.0, None),
    direction="higher",
    degree=0,
    cost="O(n h w)",
    source=_SOURCE,
    misleads="masks of unequal areas: an even heatmap gives their ratio",
)
def energy_ratio(heatmaps: Heatmaps, core: Masks, spurious: Masks) -> Estimate:
    """Return energy on the object over energy on what competes with it.

    Args:
        heatmaps: (n, h, w) energies, at least 0.
        core: (n, h, w) True on the object.
        spurious: (n, h, w) True on the shortcut.

    Returns:
        At least 0; above 1 the object takes more. Details: `area_ratio`, what an even
        heatmap gives, and `left_out`.

    Raises:
        InputError: where shapes differ, or energies are negative or not finite.
        Undecidable: where no image is left, or nothing falls on the shortcut.

    Source: ours, after Kalibhat et al. 2022, Section 5.
    """
    rows = _checked(heatmaps, core)
    _checked(heatmaps, spurious)
    flat_core, flat_spurious = (one.reshape(len(one), -1) for one in (core, spurious))
    usable = (rows.sum(axis=1) > 0) & flat_core.any(axis=1) & flat_spurious.any(axis=1)
    if not usable.any():
        raise Undecidable("no heatmap with energy, an object and a shortcut")
    rows, inner, outer = rows[usable], flat_core[usable], flat_spurious[usable]
    below = float(energy_shares(rows, outer).sum())
    if below == 0:
        raise Undecidable("no energy falls on the shortcut")
    return Estimate(
        float(energy_shares(rows, inner).sum()) / below,
        details={
            "area_ratio": float(inner.sum() / outer.sum()),
            "left_out": int((~usable).sum()),
        },
    )


def feature_tag(core: float, spurious: float | None = None) -> FeatureTag:
    """Return what a feature looks at, by its mean shares of energy.

    Args:
        core: share on the object, from 0 to 1.
        spurious: share on what competes; all that is not core where None.

    Returns:
        "core" from half of the energy on the object on, "spurious" from half on what
        competes on, else "noisy".

    Source: ours; Kalibhat et al. 2022 tell core, spurious and noisy features apart by
    eye.

    Example:
        >>> feature_tag(0.7), feature_tag(0.1, 0.8), feature_tag(0.3, 0.3)
        ('core', 'spurious', 'noisy')
    """
    if core >= CORE_SHARE:
        return "core"
    other = 1 - core if spurious is None else spurious
    return "spurious" if other >= SPURIOUS_SHARE else "noisy"
