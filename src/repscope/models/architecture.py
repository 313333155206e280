"""Which network is it? A record of the few numbers that fix one of our backbones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from repscope._checking import UsageError, check_choice

Stem = Literal["cifar", "imagenet"]

# Beyond these are no networks but mistakes, or files that mean harm.
MAXIMA = {"channels": 2**16, "depth": 1_000, "width": 2**16}


@dataclass(frozen=True)
class Architecture:
    """The name and the sizes of a backbone; `repscope.models.backbones` builds it.

    Args:
        name: a key of `repscope.models.backbones.BACKBONES`.
        channels: of the images, with the constant planes counted, from 1.
        depth: blocks, where the backbone leaves the choice (`res_lh`); None is its
            default.
        width: channels of the first convolution, where it leaves the choice; None is
            its default.
        stem: of a ResNet: "cifar" begins with a 3x3 convolution of stride 1,
            "imagenet" with a 7x7 one of stride 2 and max-pooling.

    Raises:
        UsageError: where a size is no whole number from 1, or beyond all use, or the
            stem unknown.
    """

    name: str
    channels: int = 3
    depth: int | None = None
    width: int | None = None
    stem: Stem = "cifar"

    def __post_init__(self) -> None:
        sizes = {"channels": self.channels, "depth": self.depth, "width": self.width}
        for size, value in sizes.items():
            if value is None and size != "channels":
                continue
            if type(value) is not int or not 1 <= value <= MAXIMA[size]:
                raise UsageError(
                    f"architecture {self.name}: {size} is {value!r}",
                    expected=f"a whole number from 1 to {MAXIMA[size]:,}",
                )
        check_choice("stem", self.stem, get_args(Stem))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for TOML or JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Return the record of such a dictionary.

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
        return cls(**values)
