"""Which tensor of a checkpoint is which of the network?

Libraries put other words before the names of an encoder's tensors. A closed table of
layouts says which; the one that fits most tensors, by name and by shape, is taken and
told. A checkpoint that fits badly is an error: an encoder that stayed random without a
word would be the worst of all faults.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from repscope._checking import InputError
from repscope.models.key_layouts import (
    HEADS,
    OPTIONAL,
    Layout,
    first_part,
    possible_layouts,
    renamed_keys,
    unwrapped,
)

# Less than this share of the network's tensors found is an error, and so is more than
# the rest of it left over inside of the network's own parts.
MATCHED_SHARE = 0.95
# Names shown per line of a report, and lines of a report in an error.
SHOWN_NAMES, SHOWN_LINES = 5, 8
SHOWN_CHARACTERS = 80
# Prefixes that no table knows are tried where there are no more.
MAXIMUM_PREFIXES = 16

Shapes = Mapping[str, tuple[int, ...]]


class MisfitError(InputError):
    """Weights of another network than the one to be filled (exit code 3)."""


@dataclass(frozen=True)
class Match:
    """What of a checkpoint fits a network.

    Args:
        layout: the layout's name and prefix.
        loaded: the network's name of each tensor that fits -> that tensor.
        missing: names of the network that the checkpoint lacks.
        mismatched: (name, shape in the checkpoint, shape in the network).
        unexpected: names under the prefix that the network lacks.
        foreign: those of them that lie inside of the network's own parts.
        left_out: (part, number of tensors) of heads, queues and other encoders.
        needed: how many tensors the network has; counters of batches not counted.
    """

    layout: str
    loaded: Mapping[str, Tensor]
    missing: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unexpected: tuple[str, ...]
    foreign: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]
    needed: int

    @property
    def matched(self) -> int:
        """How many of the network's tensors were found, counters not counted."""
        return self.needed - len(self.missing) - len(self.mismatched)

    @property
    def share(self) -> float:
        """Matched tensors of all that the network needs, in [0, 1]; 1 is best."""
        return self.matched / self.needed if self.needed else 0.0

    def report(self) -> str:
        """Return what was loaded and what was not, a fact a line."""
        lines = [
            f"layout: {self.layout}",
            f"matched: {self.matched:,} of {self.needed:,} tensors ({self.share:.1%})",
        ]
        shapes = [
            f"{_shown(name)} is {_size(found)}, needs {_size(needed)}"
            for name, found, needed in self.mismatched
        ]
        parts = [f"{_shown(part)} ({count:,})" for part, count in self.left_out]
        for label, texts in (
            ("of another shape", shapes),
            ("missing, left as initialised", [_shown(name) for name in self.missing]),
            ("not in the network", [_shown(name) for name in self.unexpected]),
            ("left out on purpose", parts),
        ):
            if texts:
                lines.append(f"{label}: {_listed(texts)}")
        return "\n".join(lines)


def map_keys(
    state: Mapping[str, Tensor], target: Shapes, *, name: str = "checkpoint"
) -> Match:
    """Return which tensor of a checkpoint is which of a network.

    Args:
        state: the checkpoint's tensors by name.
        target: the network's shapes by name, parameters and buffers.
        name: what to call the checkpoint in an error.

    Raises:
        MisfitError: where less than MATCHED_SHARE of the network's tensors are found,
            one has another shape, or the checkpoint holds more of the network's parts
            than the network has.
    """
    match = best_match(state, target)
    refuse_bad_match(match, name)
    return match


def best_match(state: Mapping[str, Tensor], target: Shapes) -> Match:
    """Return the match under the layout that fits most tensors; the first of equals."""
    state = unwrapped(state)
    candidates = [
        match_layout(state, target, layout, prefix)
        for layout, prefix in possible_layouts(state)
    ]
    best = max(candidates, key=lambda match: match.share)
    return best if best.share >= MATCHED_SHARE else _own_prefix(state, target) or best


def refuse_bad_match(match: Match, name: str) -> None:
    """Raise MisfitError unless a match is good enough to load.

    Raises:
        MisfitError: with the first lines of the match's report.
    """
    if match.share < MATCHED_SHARE:
        what = f"{name}: only {match.share:.1%} of the encoder's tensors are in it"
    elif match.mismatched:
        what = f"{name}: tensors of another shape than the encoder's"
    elif len(match.foreign) > (1 - MATCHED_SHARE) * match.needed:
        what = f"{name}: {len(match.foreign):,} tensors have no place in the encoder"
    else:
        return
    lines = match.report().splitlines()[:SHOWN_LINES]
    raise MisfitError(
        "\n".join([what, *(f"    {line}" for line in lines)]),
        expected=f"at least {MATCHED_SHARE:.0%} of the tensors, each of its shape",
        fix="name the architecture that was trained, with its stem and width; "
        "in Python, load the weights yourself and pass the module",
    )


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], *, name: str = "checkpoint"
) -> Match:
    """Load a checkpoint's tensors into a module and return the match.

    Args:
        module: changed in place, unless an error is raised.
        state: the checkpoint's tensors by name.
        name: what to call the checkpoint in an error.

    Raises:
        MisfitError: as `map_keys`.
        InputError: where tensors hold NaN, infinity or integers in place of real
            numbers.
    """
    own = module.state_dict()
    match = map_keys(state, shapes_of(own), name=name)
    for key, tensor in match.loaded.items():
        if tensor.is_floating_point() != own[key].is_floating_point():
            raise InputError(
                f"{name}: `{_shown(key)}` is of type {_type(tensor)}",
                expected=_type(own[key]),
                fix="undo the quantisation before you save the weights",
            )
        if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
            raise InputError(
                f"{name}: `{_shown(key)}` holds NaN or infinity",
                fix="take a checkpoint from before the training diverged",
            )
    module.load_state_dict(dict(match.loaded), strict=False)
    return match


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def match_layout(
    state: Mapping[str, Tensor], target: Shapes, layout: Layout, prefix: str
) -> Match:
    """Return the match under one layout with one of its prefixes.

    Args:
        state: the checkpoint's tensors, as `unwrapped` returns them.
        target: the network's shapes by name.
        layout: its renames are applied.
        prefix: what stands before the encoder's names.
    """
    renamed, left_out = renamed_keys(state, layout, prefix)
    roots = {first_part(name) for name in target}
    loaded, mismatched, unexpected = {}, [], []
    for name, tensor in renamed.items():
        shape = tuple(tensor.shape)
        if name not in target:
            if HEADS.match(name):
                left_out[first_part(name)] += 1
            elif not name.endswith(OPTIONAL):
                unexpected.append(name)
        elif shape == tuple(target[name]):
            loaded[name] = tensor
        elif not name.endswith(OPTIONAL):
            mismatched.append((name, shape, tuple(target[name])))
    needed = [name for name in target if not name.endswith(OPTIONAL)]
    return Match(
        layout=f"{layout.name}, `{_shown(prefix)}`" if prefix else layout.name,
        loaded=loaded,
        missing=tuple(name for name in needed if name not in renamed),
        mismatched=tuple(mismatched),
        unexpected=tuple(unexpected),
        foreign=tuple(name for name in unexpected if first_part(name) in roots),
        left_out=tuple(left_out.most_common()),
        needed=len(needed),
    )


def _own_prefix(state: Mapping[str, Tensor], target: Shapes) -> Match | None:
    """Return the good match under a prefix that no table knows, if there is only one.

    Of several encoders in one file none is taken by chance.
    """
    needed = [name for name in target if not name.endswith(OPTIONAL)]
    anchor = max(needed, key=len, default="")  # a short name ends many longer ones
    ends = [name for name in state if name.endswith("." + anchor)]
    if len(ends) > MAXIMUM_PREFIXES:
        return None
    layout = Layout("a prefix of its own", "", ())
    matches = [
        match_layout(state, target, layout, name.removesuffix(anchor)) for name in ends
    ]
    good = [match for match in matches if match.share >= MATCHED_SHARE]
    return good[0] if len(good) == 1 else None


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape) or "one value"


def _shown(name: str) -> str:
    """Return a name out of a file so that it can do no harm on a terminal."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return text[:SHOWN_CHARACTERS] + "..."


def _listed(texts: Iterable[str]) -> str:
    texts = list(texts)
    rest = len(texts) - SHOWN_NAMES
    shown = ", ".join(texts[:SHOWN_NAMES])
    return f"{shown} and {rest:,} more" if rest > 0 else shown
