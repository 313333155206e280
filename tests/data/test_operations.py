import dataclasses

import pytest

from repscope._checking import UsageError
from repscope.data.operations import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
    describe,
    to_dict,
)

ALL = (
    RandomResizedCrop(32, scale=(0.25, 0.9), ratio=(0.5, 2.0), interpolation="bicubic"),
    RandomCrop(32, padding=3),
    HorizontalFlip(p=0.4),
    ColorJitter(0.3, 0.4, 0.6, 0.1, p=0.7, hue_method="yiq"),
    Grayscale(p=0.15),
    GaussianBlur(5, sigma=(0.2, 1.5), p=0.35),
    Solarize(threshold=0.75, p=0.05),
    AutoAugment(policy="cifar10"),
    Normalize(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
)


@pytest.mark.parametrize(
    ("kind", "parameters", "name"),
    [
        (RandomResizedCrop, {"size": 0}, "size"),
        (RandomResizedCrop, {"size": 8, "scale": (0.0, 1.0)}, "scale"),
        (RandomResizedCrop, {"size": 8, "scale": (0.5, 0.2)}, "scale"),
        (RandomResizedCrop, {"size": 8, "scale": (0.5, 1.1)}, "scale"),
        (RandomResizedCrop, {"size": 8, "ratio": (0.0, 1.0)}, "ratio"),
        (RandomResizedCrop, {"size": 8, "ratio": (2.0, 1.0)}, "ratio"),
        (RandomCrop, {"size": 0}, "size"),
        (RandomCrop, {"size": 8, "padding": -1}, "padding"),
        (HorizontalFlip, {"p": 1.5}, "p"),
        (ColorJitter, {"brightness": -0.1}, "brightness"),
        (ColorJitter, {"contrast": float("nan")}, "contrast"),
        (ColorJitter, {"saturation": float("inf")}, "saturation"),
        (ColorJitter, {"hue": 0.6}, "hue"),
        (ColorJitter, {"p": -0.1}, "p"),
        (Grayscale, {"p": float("nan")}, "p"),
        (GaussianBlur, {"kernel": 4}, "kernel"),
        (GaussianBlur, {"kernel": -1}, "kernel"),
        (GaussianBlur, {"kernel": 3, "sigma": (0.0, 1.0)}, "sigma"),
        (GaussianBlur, {"kernel": 3, "sigma": (2.0, 1.0)}, "sigma"),
        (Solarize, {"threshold": 1.2}, "threshold"),
        (Normalize, {"mean": (0.5,), "std": (0.0,)}, "std"),
    ],
)
def test_parameters_out_of_range_are_refused(kind, parameters, name):
    with pytest.raises(UsageError, match=f"^{name}: out of range\n  found: .*expected"):
        kind(**parameters)


def test_mean_and_deviation_go_together():
    with pytest.raises(UsageError, match="found: 3 and 1"):
        Normalize(mean=(0.5, 0.5, 0.5), std=(0.2,))
    with pytest.raises(UsageError, match="found: 0 and 0"):
        Normalize(mean=(), std=())


@pytest.mark.parametrize(
    ("operation", "name", "word", "meant"),
    [
        (RandomResizedCrop(8), "interpolation", "bicubc", "bicubic"),
        (ColorJitter(), "hue_method", "exakt", "exact"),
        (AutoAugment(), "policy", "cifar", "cifar10"),
    ],
)
def test_words_are_checked_without_type_checks_too(operation, name, word, meant):
    object.__setattr__(operation, name, word)
    with pytest.raises(
        UsageError, match=f"{name} '{word}'\n  fix: did you mean {meant}"
    ):
        operation.__post_init__()


@pytest.mark.parametrize("operation", ALL, ids=lambda one: type(one).__name__)
def test_every_parameter_is_told(operation):
    names = {field.name for field in dataclasses.fields(operation)}
    values = to_dict(operation)
    assert values.pop("operation") == type(operation).__name__
    assert set(values) == names
    text = describe(operation)
    assert text.startswith(type(operation).__name__ + "(")
    for name in names:
        value = getattr(operation, name)
        shown = value if isinstance(value, str | tuple) else f"{value:g}"
        if isinstance(value, tuple):
            shown = "(" + ", ".join(f"{one:g}" for one in value) + ")"
        assert f"{name}={shown}" in text
