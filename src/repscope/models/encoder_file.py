"""How an encoder of ours reaches the disk and comes back: weights, record and card.

One safetensors file holds the weights and, in its header, one JSON text with the rest.
It names a backbone of the closed list; no code, class or import path is taken from it.
"""

import contextlib
import hashlib
import io
import json
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from repscope._checking import InputError, RepscopeError, UsageError
from repscope._environment import versions
from repscope._images import Preprocess
from repscope.files.file_access import (
    damaged,
    local_path,
    open_unchanged,
    reading,
    stamp_of,
)
from repscope.files.saving import Writer, write_together
from repscope.files.sniffing import SAFETENSORS_HEADER_LIMIT, Kind, sniff
from repscope.models.abstract_backbone import Backbone
from repscope.models.architecture import Architecture
from repscope.models.backbones import outline
from repscope.models.heads import count_parameters
from repscope.models.model_card import CARD_MARK, model_card
from repscope.models.weights import weights_fingerprint

SUFFIX, CARD = ".safetensors", "README.md"
# The key of the header's only entry, and the version of what it holds.
KEY, FORMAT = "repscope_encoder", 1
_FIELDS: dict[str, type] = {
    "format": int,
    "repscope": str,
    "name": str,
    "architecture": dict,
    "preprocess": dict,
    "layers": list,
    "default_layer": str,
    "planes": int,
    "facts": dict,
    "parameters": int,
    "weights": str,
    "checksum": str,
}
_TYPES = {torch.float32: "F32", torch.int64: "I64"}
# A tensor's type and shape, as a header says them.
_Shape = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class SavedEncoder:
    """What a file holds; `Encoder` explains the fields."""

    backbone: Backbone
    preprocess: Preprocess
    name: str
    layers: dict[str, str]
    default_layer: str
    planes: int
    facts: dict[str, str]


def write_encoder(path: Path, saved: SavedEncoder, *, overwrite: bool) -> Path:
    """Write weights, record and card, all or none; see `Encoder.save`.

    Raises:
        UsageError: where the name does not end in .safetensors, or a file is there.
        ResourceError: where the system does not let it.
    """
    if path.suffix != SUFFIX:
        raise UsageError(
            f"{path}: an encoder's file ends in {SUFFIX}",
            fix=f"{path.with_name(path.name + SUFFIX)}",
        )
    _check_free(path, overwrite)
    state = _plain_state(saved.backbone)
    record = _record(saved, state)
    # one entry only: with several, their order would differ from run to run
    header = {KEY: json.dumps(record, sort_keys=True, ensure_ascii=True)}
    weights = safetensors.torch.save(state, metadata=header)
    card = model_card(path.name, record, outline(saved.backbone.architecture))
    files = {
        path.name: _writer(weights),
        CARD: _writer(card.encode("utf-8", "replace")),
    }
    write_together(path.parent, files, need=len(weights))
    return path


def read_encoder(path: str | os.PathLike[str]) -> SavedEncoder:
    """Return what `write_encoder` wrote, on the CPU.

    Raises:
        InputError: where the file is damaged or no encoder of ours.
        ResourceError: where it cannot be read.
    """
    place = local_path(path)
    if place.is_dir():
        raise InputError(
            f"{place}: is a folder",
            expected=f"a {SUFFIX} file",
            fix=f"{place / ('encoder' + SUFFIX)}",
        )
    stamp = stamp_of(place)
    _check_kind(place)
    with open_unchanged(place, stamp) as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(SAFETENSORS_HEADER_LIMIT, stamp.size - 8):
            raise damaged(place.name, "no safetensors header")
        header = file.read(length)
        shapes, text = _parsed_header(header, place.name)
        record = _parsed_record(text, place.name)
        saved = _restored(record, place.name)
        # before the weights are read: a file of another size is not taken into memory
        _check_shapes(shapes, saved.backbone, place.name)
        _check_size(stamp.size - 8 - length, saved.backbone, place.name)
        content = length.to_bytes(8, "little") + header + file.read()
    _fill(saved.backbone, content, record["weights"], place.name)
    return saved


def _check_kind(path: Path) -> None:
    """Raise InputError for a file that is whole and of another format."""
    kind = sniff(path)
    if kind in (Kind.SAFETENSORS, Kind.UNKNOWN, Kind.EMPTY):
        return
    fix = "--init-from takes such a file, or the folder of a run"
    if kind is Kind.TORCH:
        fix += f'; open_encoder("{path.name}") in Python reads weights of known layouts'
    raise InputError(
        f"{path.name}: is {kind.value}, not an encoder of repscope",
        expected=f"the {SUFFIX} file that `repscope train` or `Encoder.save` wrote",
        fix=fix,
    )


@contextlib.contextmanager
def blaming(file: str) -> Iterator[None]:
    """Turn the error that a wrong argument makes into one that names the file.

    Raises:
        InputError: in place of any error of ours.
    """
    try:
        yield
    except RepscopeError as error:
        raise InputError(
            f"{file}: {error.what}",
            found=error.found,
            expected=error.expected,
            fix=error.fix,
        ) from error


def _check_free(path: Path, overwrite: bool) -> None:
    """Raise UsageError where a file would be lost that nobody offered."""
    card = path.with_name(CARD)
    for place in (path, card):
        if place.exists() and not overwrite:
            raise UsageError(
                f"{place}: exists",
                fix="choose another folder, or overwrite=True to replace it",
            )
    if card.exists():
        with reading(card), card.open("rb") as file:
            ours = file.read(len(CARD_MARK)) == CARD_MARK.encode("utf-8")
        if not ours:
            raise UsageError(
                f"{card}: is no card of an encoder, and is not replaced",
                fix="save the encoder in a folder of its own",
            )


def _plain_state(backbone: Backbone) -> dict[str, Tensor]:
    """Return the weights on the CPU, contiguous, floating point as float32."""
    state = {}
    for name, tensor in backbone.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        state[name] = plain.float() if plain.is_floating_point() else plain
    return state


def _record(saved: SavedEncoder, state: Mapping[str, Tensor]) -> dict[str, Any]:
    record = {
        "format": FORMAT,
        "repscope": versions()["repscope"],
        "name": saved.name,
        "architecture": saved.backbone.architecture.to_dict(),
        "preprocess": saved.preprocess.to_dict(),
        "layers": [list(pair) for pair in saved.layers.items()],
        "default_layer": saved.default_layer,
        "planes": saved.planes,
        "facts": saved.facts,
        "parameters": count_parameters(saved.backbone),
        "weights": weights_fingerprint(state),
    }
    return record | {"checksum": _checksum(record)}


def _checksum(record: Mapping[str, Any]) -> str:
    """Return a hash of a record, its own checksum left out."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _writer(content: bytes) -> Writer:
    def write(file: io.BufferedIOBase) -> None:
        file.write(content)

    return write


def _parsed_header(header: bytes, file: str) -> tuple[dict[str, _Shape], str]:
    """Return each tensor's type and shape, and our text.

    Raises:
        InputError: where the header is none, or holds no text of ours.
    """
    try:
        entries = json.loads(header)
        texts = entries.pop("__metadata__", {})
        shapes = {
            name: (str(entry["dtype"]), tuple(map(operator.index, entry["shape"])))
            for name, entry in entries.items()
        }
        text = texts.get(KEY)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(file, "no safetensors header") from error
    if not isinstance(text, str):
        raise InputError(
            f"{file}: weights without the record of an encoder",
            found=f"{len(shapes):,} tensors",
            expected="a file that repscope saved",
            fix="say which network they belong to: "
            f'open_encoder("{file}", architecture="resnet50[stem=imagenet]")',
        )
    return shapes, text


def _parsed_record(text: str, file: str) -> dict[str, Any]:
    """Return the record, its fields being those expected and of the right types."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(file, "the record of the encoder is no JSON") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise InputError(
            f"{file}: an encoder of another format",
            found=repr(found),
            expected=repr(FORMAT),
            fix="pip install --upgrade repscope",
        )
    for name in sorted(set(record) ^ set(_FIELDS)):
        state = "missing" if name in _FIELDS else "unknown"
        raise damaged(file, f"{state} field {name!r} in the record of the encoder")
    for name, kind in _FIELDS.items():
        if type(record[name]) is not kind:
            raise damaged(file, f"field {name!r} of the encoder is no {kind.__name__}")
    if record["checksum"] != _checksum(record):
        raise damaged(file, "the record of the encoder is not the one that was saved")
    return record


def _restored(record: Mapping[str, Any], file: str) -> SavedEncoder:
    """Return the encoder with a backbone that has shapes but no weights yet."""
    pairs, facts = record["layers"], record["facts"]
    texts = [text for pair in pairs if isinstance(pair, list) for text in pair]
    texts += facts.values()
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in pairs
    ):
        raise damaged(file, "layers or facts of the encoder are no texts")
    with blaming(file):
        backbone = outline(Architecture.from_dict(record["architecture"]))
        preprocess = Preprocess.from_dict(record["preprocess"])
    return SavedEncoder(
        backbone=backbone,
        preprocess=preprocess,
        name=record["name"],
        layers=dict(pairs),
        default_layer=record["default_layer"],
        planes=record["planes"],
        facts=dict(facts),
    )


def _check_shapes(found: Mapping[str, _Shape], backbone: Backbone, file: str) -> None:
    """Raise InputError unless the file has each tensor of the backbone and no other."""
    expected = {
        name: (_TYPES[tensor.dtype], tuple(tensor.shape))
        for name, tensor in backbone.state_dict().items()
    }
    for name in sorted(set(found) | set(expected)):
        if found.get(name) != expected.get(name):
            raise InputError(
                f"{file}: the weights are not those of {backbone.architecture.name}",
                found=f"`{name}`: {_words(found.get(name))}",
                expected=_words(expected.get(name)),
                fix="copy, download or write it again",
            )


def _words(shape: _Shape | None) -> str:
    return "none" if shape is None else f"{shape[0]} of shape {shape[1]}"


def _check_size(available: int, backbone: Backbone, file: str) -> None:
    needed = sum(t.numel() * t.element_size() for t in backbone.state_dict().values())
    if needed != available:
        state = "truncated" if needed > available else "too long"
        raise InputError(
            f"{file}: {state}: {needed:,} bytes of weights are expected, "
            f"it has {available:,}",
            fix="copy, download or write it again",
        )


def _fill(backbone: Backbone, content: bytes, fingerprint: str, file: str) -> None:
    """Give the backbone its weights, once they are known to be those that were saved.

    Raises:
        InputError: where they are not.
    """
    try:
        state = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise damaged(file, str(error)) from error
    if weights_fingerprint(state) != fingerprint:
        raise damaged(file, "the weights are not those that were saved")
    backbone.to_empty(device="cpu")
    backbone.load_state_dict(state, strict=True)
