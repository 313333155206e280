"""What was trained, and how? One value that says it all and goes through TOML.

A recipe is a frozen record of frozen sections (`repscope.training.sections`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from repscope._checking import UsageError
from repscope.training.sections import (
    AugmentationSection,
    DataSection,
    EncoderSection,
    HeadSection,
    ObjectiveSection,
    OptimiserSection,
    PredictorSection,
    TrainingSection,
    check_value,
)
from repscope.training.toml_file import read_toml, too_deep
from repscope.training.typed_values import (
    fields_of,
    plain_of_text,
    record_of,
    unknown_key,
    value_of_text,
)

# Where the images lie says nothing about what they are; their fingerprint does.
PLACES = ("data.source", "data.split")
# Of what a recipe can say. A file of a later one may mean something unknown here.
SCHEMA_VERSION = "1.1"
_SCHEMA_KEY = "schema_version"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which encoder comes out of which images.

    Args:
        data: which images.
        augmentation: how views of them are made.
        encoder: the network from images to features.
        head: the network from features to what the objective sees.
        predictor: the network after the head, of objectives that have one.
        objective: what training minimises.
        optimiser: how a step is taken.
        training: how long, and with what safety.

    Example:
        >>> recipe = override(Recipe(), ["training.epochs=3", "encoder.name=resnet18"])
        >>> recipe.training.epochs, recipe.encoder.name
        (3, 'resnet18')
        >>> print(*difference(Recipe(), recipe), sep="; ")
        encoder.name: small_conv -> resnet18; training.epochs: 20 -> 3
    """

    data: DataSection = field(default_factory=DataSection)
    augmentation: AugmentationSection = field(default_factory=AugmentationSection)
    encoder: EncoderSection = field(default_factory=EncoderSection)
    head: HeadSection = field(default_factory=HeadSection)
    predictor: PredictorSection = field(default_factory=PredictorSection)
    objective: ObjectiveSection = field(default_factory=ObjectiveSection)
    optimiser: OptimiserSection = field(default_factory=OptimiserSection)
    training: TrainingSection = field(default_factory=TrainingSection)

    def __post_init__(self) -> None:
        warmup, epochs = self.optimiser.warmup_epochs, self.training.epochs
        limit = f"at most training.epochs = {epochs}"
        check_value("optimiser.warmup_epochs", warmup, warmup <= epochs, limit)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Return the recipe in a TOML file; what it leaves out has its default.

        Raises:
            InputError: where there is no such file.
            UsageError: where it is no TOML, too long or too deep, or a key or a value
                is wrong.
        """
        plain, name = read_toml(path), Path(path).name
        try:
            return cls.from_dict(plain)
        except RecursionError as error:
            raise too_deep(name) from error
        except UsageError as error:
            raise _in_file(name, error) from error

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` gave, or a part of one.

        Raises:
            UsageError: where a key is unknown, a value is wrong, or it is a recipe of a
                later version.
        """
        _check_schema(plain.get(_SCHEMA_KEY, SCHEMA_VERSION))
        known = {key: value for key, value in plain.items() if key != _SCHEMA_KEY}
        recipe: Recipe = record_of(cls, known, "")
        return recipe

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return section → key → value; keys without a value are left out.

        All defaults are written out. A field that may be None has None as its default,
        so that what is left out comes back.
        """
        return {
            section: {key: _plain(value) for key, value in values.items()}
            for section, values in _sections(self).items()
        }

    def dump(self) -> str:
        """Return the recipe as TOML, from which `load` gives the same recipe."""
        return tomli_w.dumps({_SCHEMA_KEY: SCHEMA_VERSION, **self.to_dict()})

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the result: everything but the data's place."""
        counted = {
            key: value for key, value in _flat(self).items() if key not in PLACES
        }
        text = json.dumps(counted, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def override(recipe: Recipe, words: Iterable[str]) -> Recipe:
    """Return the recipe with some values replaced.

    Args:
        recipe: is not changed.
        words: such as ``training.epochs=3``, ``data.limit=none`` or
            ``objective.options.temperature=0.1``; later ones win.

    Raises:
        UsageError: where a key is unknown or a value is of the wrong type.
    """
    plain = recipe.to_dict()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            example = "training.epochs=3"
            raise UsageError(f"{word!r} sets nothing", fix=f"write it as {example}")
        try:
            _replace(plain, key.strip().split("."), text.strip())
        except RecursionError as error:
            raise too_deep(key) from error
    return Recipe.from_dict(plain)


def difference(before: Recipe, after: Recipe) -> tuple[str, ...]:
    """Return one line for each value that differs, such as ``data.limit: none -> 9``.

    Where the images lie is left out, as it decides nothing.

    Args:
        before: a recipe.
        after: another.
    """
    left, right = _flat(before), _flat(after)
    return tuple(
        f"{key}: {_text(left.get(key))} -> {_text(right.get(key))}"
        for key in sorted(left | right)
        if left.get(key) != right.get(key) and key not in PLACES
    )


def _check_schema(version: Any) -> None:
    """Raise UsageError for a recipe of a later version than ours."""
    numbers = str(version).split(".")
    if not all(number.isdecimal() for number in numbers):
        raise UsageError(
            f"{_SCHEMA_KEY} = {version!r}", expected=f'such as "{SCHEMA_VERSION}"'
        )
    if [int(number) for number in numbers] > [
        int(number) for number in SCHEMA_VERSION.split(".")
    ]:
        raise UsageError(
            f"the recipe is of a later version, {version}, than this repscope knows",
            expected=f"{_SCHEMA_KEY} up to {SCHEMA_VERSION}",
            fix="pip install --upgrade repscope",
        )


def _sections(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return section → key → value without the keys that have none."""
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in dataclasses.asdict(recipe).items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Return dotted key → value."""
    flat: dict[str, Any] = {}
    for section, values in recipe.to_dict().items():
        for key, value in values.items():
            inner = value if isinstance(value, Mapping) else {"": value}
            for name, one in inner.items():
                flat[f"{section}.{key}.{name}".rstrip(".")] = one
    return flat


def _replace(plain: dict[str, dict[str, Any]], path: list[str], text: str) -> None:
    """Set one value, typed by its field, in the tables of a recipe."""
    where = ".".join(path)
    sections = fields_of(Recipe)
    if path[0] not in sections:
        raise unknown_key(where, path[0], sections)
    hints = fields_of(sections[path[0]])
    if len(path) == 1 or path[1] not in hints:
        key = path[1] if len(path) > 1 else ""
        raise unknown_key(where, key, hints)
    values, kind = plain[path[0]], hints[path[1]]
    if len(path) == 3 and path[1] == "options":
        _set(values.setdefault("options", {}), path[2], plain_of_text(text))
    elif len(path) == 2 and path[1] != "options":
        _set(values, path[1], value_of_text(kind, text, where))
    else:
        raise UsageError(
            f"{where!r} names no single value", fix="objective.options.NAME=VALUE"
        )


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = _plain(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _in_file(name: str, error: UsageError) -> UsageError:
    return UsageError(
        f"{name}: {error.what}",
        found=error.found,
        expected=error.expected,
        fix=error.fix,
    )
