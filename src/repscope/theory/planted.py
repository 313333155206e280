"""Features with a known truth: sound ones, and one for each failure.

Each function returns features together with what was planted, so that a check can be
held against it. The sound ones look like a trained encoder's: not negative, classes
within classes, a power law of variance, every image a little different.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Planted:
    """Features and the truth about them.

    Args:
        features: (n, d).
        labels: level name -> (n,) codes, fine to coarse.
        attributes: factor -> (n,) codes.
        rows: the rows that were damaged, where only some were.
        truth: what was planted, in words.
    """

    features: Float[np.ndarray, "n d"]
    labels: Mapping[str, Int[np.ndarray, " n"]] = field(default_factory=dict)
    attributes: Mapping[str, Int[np.ndarray, " n"]] = field(default_factory=dict)
    rows: Int[np.ndarray, " m"] = field(default_factory=lambda: np.arange(0))
    truth: str = "sound"


def power_law(
    n: int, d: int, alpha: float, *, seed: int = 0
) -> Float[np.ndarray, "n d"]:
    """Return Gaussian rows with eigenvalues k^-alpha, randomly rotated."""
    generator = np.random.default_rng(seed)
    scales = np.arange(1.0, d + 1) ** (-alpha / 2)
    rotation = np.linalg.qr(generator.standard_normal((d, d)))[0]
    return (generator.standard_normal((n, d)) * scales) @ rotation


def with_exact_spectrum(
    n: int, eigenvalues: Float[np.ndarray, " d"], *, seed: int = 0
) -> Float[np.ndarray, "n d"]:
    """Return n > d centred rows whose covariance has just these eigenvalues."""
    d = len(eigenvalues)
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((n, d))
    whitened = np.linalg.qr(noise - noise.mean(axis=0))[0] * np.sqrt(n)
    rotation = np.linalg.qr(generator.standard_normal((d, d)))[0]
    return (whitened * np.sqrt(eigenvalues)) @ rotation


def sound(
    n: int = 2000,
    d: int = 128,
    *,
    n_classes: int = 5,
    subclasses: int = 2,
    noise: float = 1.0,
    subclass_distance: float = 1.0,
    seed: int = 0,
) -> Planted:
    """Return features of a sound encoder with two label levels, "fine" and "coarse".

    A latent of d dimensions carries class and subclass centres and noise with
    eigenvalues k^-1; a random rotation and a rectifier make features of it.

    Args:
        n: rows.
        d: feature dimensions.
        n_classes: coarse classes.
        subclasses: fine classes in each.
        noise: length of the noise relative to the distance of class centres.
        subclass_distance: distance of subclass centres relative to class centres.
        seed: another seed gives other features.
    """
    generator = np.random.default_rng(seed)
    n_fine = n_classes * subclasses
    fine = generator.permutation(np.arange(n) % n_fine)
    parents = np.arange(n_fine) // subclasses
    # Centres in the first dimensions, where an encoder keeps what varies most.
    width = min(d, 2 * n_fine)
    centres = np.zeros((n_fine, d))
    centres[:, :width] = generator.standard_normal((n_classes, width))[parents]
    own = generator.standard_normal((n_fine, width))
    centres[:, :width] += subclass_distance * own
    centres /= np.sqrt(width)
    latent = centres[fine] + noise * power_law(n, d, 1.0, seed=seed + 1) / np.sqrt(5)
    rotation = np.linalg.qr(generator.standard_normal((d, d)))[0]
    features = np.maximum(latent @ rotation * np.sqrt(d) + 0.3, 0)
    return Planted(features, {"fine": fine, "coarse": parents[fine]})


def complete_collapse(
    sound_one: Planted, *, spread: float = 1e-5, seed: int = 0
) -> Planted:
    """Return nearly the same vector for every image, however it is labelled.

    Args:
        sound_one: features to take mean and labels from.
        spread: length of what varies relative to the mean.
        seed: of the rest of noise.
    """
    features = sound_one.features
    mean = features.mean(axis=0)
    noise = np.random.default_rng(seed).standard_normal(features.shape)
    size = spread * np.linalg.norm(mean) / np.sqrt(features.shape[1])
    return dataclasses.replace(
        sound_one, features=mean + size * noise, truth="complete collapse"
    )


def dimensional_collapse(
    sound_one: Planted, rank: int, *, leak: float = 0.0
) -> Planted:
    """Return the features projected onto their first principal components.

    Args:
        sound_one: features to collapse.
        rank: dimensions kept.
        leak: factor on all other dimensions.
    """
    mean = sound_one.features.mean(axis=0)
    centred = sound_one.features - mean
    axes = np.linalg.svd(centred, full_matrices=False)[2][:rank]
    kept = centred @ axes.T @ axes
    return dataclasses.replace(
        sound_one,
        features=mean + kept + leak * (centred - kept),
        truth=f"dimensional collapse onto {rank}",
    )


def isotropic_noise(sound_one: Planted, *, seed: int = 0) -> Planted:
    """Return noise with a flat spectrum that knows nothing of the labels."""
    noise = np.random.default_rng(seed).standard_normal(sound_one.features.shape)
    return dataclasses.replace(
        sound_one, features=noise, truth="flat spectrum without signal"
    )


def whitened(sound_one: Planted) -> Planted:
    """Return the features whitened: flat by construction, and sound."""
    centred = sound_one.features - sound_one.features.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    kept = values > 1e-8 * values[0]
    return dataclasses.replace(
        sound_one, features=left[:, kept] * np.sqrt(len(left)), truth="sound, whitened"
    )


def class_collapse(sound_one: Planted, *, rest: float = 0.0, seed: int = 0) -> Planted:
    """Return features that tell classes apart but not their subclasses.

    Each subclass's mean moves onto its class's mean, and rows within a class are
    exchanged between subclasses, so that nothing else tells subclasses apart either.

    Args:
        sound_one: features with levels "fine" and "coarse".
        rest: share of the subclass's deviation that is left.
        seed: of the exchange.
    """
    fine, coarse = sound_one.labels["fine"], sound_one.labels["coarse"]
    generator = np.random.default_rng(seed)
    features = sound_one.features.copy()
    for parent in np.unique(coarse):
        rows = np.flatnonzero(coarse == parent)
        centre = features[rows].mean(axis=0)
        deviations = np.zeros_like(features[rows])
        for child in np.unique(fine[rows]):
            own = fine[rows] == child
            deviations[own] = features[rows][own].mean(axis=0) - centre
        plain = (features[rows] - deviations)[generator.permutation(len(rows))]
        features[rows] = plain + rest * deviations
    return dataclasses.replace(sound_one, features=features, truth="class collapse")


def feature_suppression(
    sound_one: Planted,
    *,
    bits: int = 8,
    strength: float = 4.0,
    rest: float = 0.1,
    noise: float = 0.5,
    seed: int = 0,
) -> Planted:
    """Return features drowned by an easy factor: random bits, unrelated to the labels.

    Args:
        sound_one: features to drown.
        bits: each row draws one of 2^bits codes.
        strength: deviation of the bits' part relative to that of the features.
        rest: factor on the original features.
        noise: deviation of independent noise relative to that of the features.
        seed: of bits, directions and noise.
    """
    generator = np.random.default_rng(seed)
    n, d = sound_one.features.shape
    codes = generator.integers(0, 2, (n, bits))
    directions = generator.standard_normal((bits, d)) / np.sqrt(bits)
    scale = sound_one.features.std()
    features = (
        rest * sound_one.features
        + strength * scale * (2 * codes - 1) @ directions
        + noise * scale * generator.standard_normal((n, d))
    )
    attributes = {f"bit {k}": codes[:, k] for k in range(bits)}
    return dataclasses.replace(
        sound_one,
        features=features,
        attributes=attributes,
        truth=f"feature suppression by {bits} bits",
    )


def low_quality_samples(
    sound_one: Planted, *, share: float = 0.1, seed: int = 0
) -> Planted:
    """Return features in which some rows lost what stands out.

    The damaged rows become the mean profile with small noise: many features, none
    discriminative.

    Args:
        sound_one: features to damage.
        share: of rows damaged.
        seed: of the choice and the noise.
    """
    generator = np.random.default_rng(seed)
    features = sound_one.features.copy()
    n, d = features.shape
    rows = np.sort(generator.choice(n, size=int(share * n), replace=False))
    level = features.mean()
    flat = level * (1 + 0.2 * generator.uniform(-1, 1, (len(rows), d)))
    features[rows] = flat
    return dataclasses.replace(
        sound_one,
        features=features,
        rows=rows,
        truth=f"{len(rows)} low-quality samples",
    )


def shared_features(
    sound_one: Planted, *, count: int = 1, strength: float = 3.0
) -> Planted:
    """Return features of which the first `count` are the greatest of every row.

    Args:
        sound_one: features that are not negative.
        count: how many features are always on.
        strength: their size relative to the greatest other feature of the row.
    """
    features = sound_one.features.copy()
    greatest = features[:, count:].max(axis=1, keepdims=True)
    features[:, :count] = strength * greatest
    return dataclasses.replace(
        sound_one, features=features, truth=f"{count} shared features"
    )


def duplicates(sound_one: Planted, *, share: float = 0.2) -> Planted:
    """Return features whose last rows repeat the first ones, labels included."""
    n = len(sound_one.features)
    count = int(share * n)
    source = np.arange(n)
    source[n - count :] = np.arange(count)
    return Planted(
        sound_one.features[source],
        {name: codes[source] for name, codes in sound_one.labels.items()},
        {name: codes[source] for name, codes in sound_one.attributes.items()},
        rows=np.arange(n - count, n),
        truth=f"{count} duplicates",
    )
