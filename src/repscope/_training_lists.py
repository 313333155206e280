"""What can a recipe name? Objectives, encoders and heads with what each leaves open."""

import dataclasses
from collections.abc import Mapping

from repscope import _terminal
from repscope._checking import EXIT_OK
from repscope.models.backbones import BACKBONES
from repscope.models.heads import HEADS
from repscope.objectives.catalogue import OBJECTIVES

Entries = Mapping[str, Mapping[str, str]]

# Of a backbone, as the record of its kind has them.
_SIZES = ("depth", "width", "patch", "heads", "hidden")


def list_trainable(what: str, *, as_json: bool) -> int:
    """Print what recipes can name.

    Args:
        what: "objectives", "encoders" or "heads".
        as_json: as JSON instead of text.

    Returns:
        The exit code 0.
    """
    catalogues = {
        "objectives": _objective_entries,
        "encoders": _encoder_entries,
        "heads": _head_entries,
    }
    _terminal.show_entries(catalogues[what](), as_json=as_json)
    return EXIT_OK


def _objective_entries() -> Entries:
    entries = {}
    for name, kind in OBJECTIVES.items():
        objective = kind()
        needs = objective.needs
        wanted = {
            "labels": needs.labels,
            "a second network that follows": needs.target is not None,
            f"the predictor {needs.predictor}": needs.predictor is not None,
        }
        entries[name] = {
            "what": (kind.__doc__ or "").partition("\n")[0],
            "needs": ", ".join(one for one, is_so in wanted.items() if is_so),
            "options": ", ".join(
                f"{option} = {value}"
                for option, value in dataclasses.asdict(objective).items()  # type: ignore[call-overload]
            ),
        }
    return entries


def _encoder_entries() -> Entries:
    entries = {}
    for name, kind in BACKBONES.items():
        sizes = {size: getattr(kind, size) for size in _SIZES}
        options = [f"{size} = {one}" for size, one in sizes.items() if one is not None]
        options += ["stem = cifar or imagenet"] if kind.stems else []
        entries[name] = {"what": kind.summary, "options": ", ".join(options)}
    return entries


def _head_entries() -> Entries:
    entries = {"none": {"layers": "h itself", "options": ""}}
    for name, kind in HEADS.items():
        between = f"hidden {'BN ' if kind.hidden_bn else ''}ReLU"
        layers = ["h", *[between] * kind.n_hidden, "out"]
        width = kind.hidden or ("as out" if kind.square else "as h")
        values = {
            "hidden": f"hidden = {width}",
            "out": f"out = {kind.out}",
            "bn": "bn = true or false",
        }
        frozen = ", never trained" if kind.frozen else ""
        entries[name] = {
            "layers": f"{' → '.join(layers)}{frozen}",
            "options": ", ".join(values[option] for option in kind.options),
        }
    return entries
