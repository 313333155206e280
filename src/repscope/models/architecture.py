"""Which network is it? A record of the few numbers that fix one of our backbones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from repscope._checking import UsageError, check_choice

Stem = Literal["cifar", "imagenet"]

# Beyond these are no networks but mistakes, or files that mean harm.
MAXIMA = {
    "channels": 2**16,
    "depth": 1_000,
    "width": 2**16,
    "patch": 2**14,
    "heads": 2**10,
    "size": 2**14,
}
MAXIMUM_HIDDEN_LAYERS = 100


@dataclass(frozen=True)
class Architecture:
    """The name and the sizes of a backbone; `repscope.models.backbones` builds it.

    Args:
        name: a key of `repscope.models.backbones.BACKBONES`.
        channels: of the images, with the constant planes counted, from 1.
        depth: blocks or layers, where the backbone leaves the choice (`res_lh`, `vit`,
            `shallow_conv`); None is its default, as for all below but `size`.
        width: channels of the first convolution, of the tokens of a transformer, or
            outputs of `linear` and `mlp`.
        stem: of a ResNet: "cifar" begins with a 3x3 convolution of stride 1,
            "imagenet" with a 7x7 one of stride 2 and max-pooling.
        patch: side of the squares that a transformer cuts images into, in pixels.
        heads: of a transformer's attention.
        hidden: widths of the hidden layers of an `mlp`, shallow to deep; a list in
            files.
        size: side of the images in pixels, where weights depend on it (`vit`, `linear`,
            `mlp`); it has no default there, and is None elsewhere.

    Raises:
        UsageError: where a size is no whole number from 1, or beyond all use, or the
            stem unknown.
    """

    name: str
    channels: int = 3
    depth: int | None = None
    width: int | None = None
    stem: Stem = "cifar"
    patch: int | None = None
    heads: int | None = None
    hidden: tuple[int, ...] | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for size, maximum in MAXIMA.items():
            value = getattr(self, size)
            if value is not None or size == "channels":
                _check_whole(self.name, size, value, maximum)
        if self.hidden is not None:
            self._check_hidden()
        check_choice("stem", self.stem, get_args(Stem))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for TOML or JSON."""
        values = asdict(self)
        hidden = values["hidden"]
        return values | {"hidden": None if hidden is None else list(hidden)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Return the record of such a dictionary; fields that it lacks are None.

        Raises:
            UsageError: where a field is unknown, missing or of another type.
        """
        for field in values:
            check_choice(
                "field of an architecture", field, [f.name for f in fields(cls)]
            )
        name = values.get("name")
        if not isinstance(name, str):
            raise UsageError(
                "architecture: no name", found=repr(name), expected="a backbone's name"
            )
        check_choice("stem", str(values.get("stem", cls.stem)), get_args(Stem))
        hidden = values.get("hidden")
        if isinstance(hidden, list | tuple):
            # before the record is made: its own types allow whole numbers alone
            for width in hidden:
                _check_whole(name, "hidden", width, MAXIMA["width"])
            values = {**values, "hidden": tuple(hidden)}
        return cls(**values)

    def _check_hidden(self) -> None:
        hidden = self.hidden
        if type(hidden) is not tuple or len(hidden) > MAXIMUM_HIDDEN_LAYERS:
            raise UsageError(
                f"architecture {self.name}: hidden is no list of widths",
                found=f"{len(hidden)} of them"
                if type(hidden) is tuple
                else f"{hidden!r}",
                expected=f"at most {MAXIMUM_HIDDEN_LAYERS} whole numbers, as [256, 64]",
            )
        for width in hidden:
            _check_whole(self.name, "hidden", width, MAXIMA["width"])


def _check_whole(name: str, size: str, value: Any, maximum: int) -> None:
    if type(value) is not int or not 1 <= value <= maximum:
        raise UsageError(
            f"architecture {name}: {size} is {value!r}",
            expected=f"a whole number from 1 to {maximum:,}",
        )
