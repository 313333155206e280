"""What the folders around pictures mean: splits, classes, classes of classes.

Names alone decide, so that a folder on disk and one inside an archive are read alike.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repscope._checking import InputError, UsageError, did_you_mean
from repscope.data.encoded_images import PICTURE_SUFFIXES

CLASS, SUPERCLASS = "class", "superclass"
# What a folder of each split may be called.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Layout:
    """Pictures in their order, and what their folders say of them.

    Args:
        names: of the pictures, as paths relative to the source, sorted naturally.
        labels: level -> a class name per picture, from fine to coarse.
    """

    names: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]


def arrange(source: str, names: Iterable[str], split: str | None = None) -> Layout:
    """Return the pictures of a split with their classes.

    A folder that holds everything says nothing and is passed over. Where the next ones
    are called train, val or test, one of them is taken. The folders after that are the
    classes; where every picture lies two folders deep and no inner folder's name comes
    twice, the inner ones are the classes and the outer ones their superclasses. A level
    of a single class is left out.

    Args:
        source: the folder or archive, for errors.
        names: relative paths with "/" between their parts.
        split: train, val or test, or the name of a folder.

    Raises:
        UsageError: where there are several splits and none is named, or not that one.
        InputError: where pictures lie beside the class folders.

    Example:
        >>> arrange("pets", ["cat/10.png", "cat/9.png", "dog/1.png"])
        Layout(names=('cat/9.png', 'cat/10.png', 'dog/1.png'),
               labels={'class': ('cat', 'cat', 'dog')})
    """
    paths = [name.split("/") for name in sorted(names, key=_natural)]
    depth = _wrapper_depth(paths)
    paths, depth = _of_split(source, paths, depth, split)
    folders = [path[depth:-1] for path in paths]
    stray = [path for path, own in zip(paths, folders, strict=True) if not own]
    if 0 < len(stray) < len(paths):
        raise InputError(
            f"{source}: pictures beside folders of pictures",
            found=f"{len(stray):,} such as {stray[0][-1]} beside "
            f"{len(paths) - len(stray):,} in folders",
            expected="all pictures in folders of classes, or none",
            fix="move them into a folder of their class, or away",
        )
    labels = {} if stray else _levels(folders)
    return Layout(tuple("/".join(path) for path in paths), labels)


def reason_against(name: str) -> str:
    """Return why a file is no picture of the set, by its name; "" for a picture.

    Args:
        name: path relative to the source.

    Example:
        >>> [reason_against(name) for name in ("a/b.jpg", "a/.b.jpg", "notes.md")]
        ['', 'hidden', '.md']
    """
    *folders, last = parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return "with unusable names"
    if any(part.startswith(".") for part in parts) or "__MACOSX" in folders:
        return "hidden"
    _, dot, ending = last.rpartition(".")
    suffix = dot + ending.lower()
    if suffix in PICTURE_SUFFIXES:
        return ""
    return suffix if dot else "without an ending"


def splits_of(tops: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that are splits: all that are called so, or none.

    A class may be called "train" too: without "val" or "test" beside it, among other
    names, it is one.
    """
    tops = sorted(set(tops), key=_natural)
    known = {SPLIT_WORDS[top.lower()] for top in tops if top.lower() in SPLIT_WORDS}
    only_splits = all(top.lower() in SPLIT_WORDS for top in tops)
    return tuple(tops) if tops and (only_splits or len(known) > 1) else ()


def choose_split(source: str, splits: Sequence[str], wanted: str | None) -> str:
    """Return which of a source's splits is meant.

    Args:
        source: for errors.
        splits: what there is, at least one.
        wanted: one of them, or another word for it; None where there is only one.

    Raises:
        UsageError: naming the choices.
    """
    if wanted is None:
        if len(splits) > 1:
            raise UsageError(
                f"{source}: has several splits",
                found=", ".join(splits),
                expected="the name of one",
                fix=f'say which: split="{splits[0]}" (--part {splits[0]})',
            )
        return splits[0]
    word = SPLIT_WORDS.get(wanted.lower(), wanted)
    alike = [name for name in splits if SPLIT_WORDS.get(name.lower(), name) == word]
    if wanted in splits or len(alike) == 1:
        return wanted if wanted in splits else alike[0]
    raise UsageError(
        f"{source}: has no split {wanted!r}",
        found=", ".join(splits),
        fix=did_you_mean(wanted, splits),
    )


def _wrapper_depth(paths: Sequence[Sequence[str]]) -> int:
    """Return how many folders hold all pictures, one inside the other."""
    depth = 0
    while paths and all(len(path) > depth + 1 for path in paths):
        tops = {path[depth] for path in paths}
        if len(tops) > 1 or splits_of(tops):
            break
        depth += 1
    return depth


def _of_split(
    source: str, paths: list[list[str]], depth: int, split: str | None
) -> tuple[list[list[str]], int]:
    """Return the pictures of the split, and how many folders mean nothing more."""
    tops = {path[depth] for path in paths if len(path) > depth + 1}
    splits = splits_of(tops)
    if not splits and split is None:
        return paths, depth
    if not splits and split not in tops:
        raise UsageError(
            f"{source}: has no split {split!r}",
            found=f"{len(tops):,} folders of pictures" if tops else "no folders",
            expected="folders called train, val or test",
            fix="leave the split out, or pass the folder that holds it",
        )
    chosen = choose_split(source, splits or sorted(tops), split)
    within = [path for path in paths if len(path) > depth + 1 and path[depth] == chosen]
    return within, depth + 1


def _levels(folders: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the levels that the folders of each picture make, from fine to coarse."""
    outer = [one[0] for one in folders]
    pairs = {tuple(one) for one in folders}
    is_two_deep = all(len(pair) == 2 for pair in pairs)
    if is_two_deep and len({pair[1] for pair in pairs}) == len(pairs):
        levels = {CLASS: [one[1] for one in folders], SUPERCLASS: outer}
    else:
        # as torchvision's ImageFolder has it: whatever lies below, the first counts
        levels = {CLASS: outer}
    return {
        level: tuple(values) for level, values in levels.items() if len(set(values)) > 1
    }


def _natural(name: str) -> tuple[str, str]:
    """Return a key that puts 9 before 10, and a folder before one of a longer name."""
    return _DIGITS.sub(_by_length, name.replace("/", "\0")), name


def _by_length(digits: re.Match[str]) -> str:
    number = digits[0].lstrip("0")
    return f"{len(number):05}{number}"  # text then compares as numbers do
