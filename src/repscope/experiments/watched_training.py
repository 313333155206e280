"""How do an encoder and its losses change while it is trained? Seen at some epochs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from repscope.data.sources import open_images
from repscope.experiments.experiment import Workplace
from repscope.metrics.decomposition import LossCurves
from repscope.models.encoder import Encoder
from repscope.training.engine import train
from repscope.training.recipe import Recipe
from repscope.training.snapshot import Observer, Snapshot

Seen = TypeVar("Seen")


@dataclass(frozen=True, eq=False)
class Watched(Generic[Seen]):
    """A training that was looked at.

    Args:
        encoder: at its end.
        seen: epochs done → what was seen then; 0 is before the first step, with the
            statistics of batch normalisation still 0 and 1.
        losses: means of each epoch, counted from 1.
    """

    encoder: Encoder
    seen: Mapping[int, Seen]
    losses: LossCurves


def trained(
    recipe: Recipe,
    place: Workplace,
    name: str,
    *,
    observers: Sequence[Observer] = (),
) -> Encoder:
    """Return the encoder of a recipe, trained on the images that it names.

    Args:
        recipe: with source and split.
        place: where to train.
        name: of the run's folder at that place.
        observers: are shown each step.
    """
    return train(
        recipe,
        open_images(recipe.data.source, split=recipe.data.split),
        None if place.folder is None else place.folder / name,
        observers=observers,
        overwrite=True,
        device=place.device,
        progress=place.progress,
    )


def watched(
    recipe: Recipe,
    place: Workplace,
    name: str,
    *,
    epochs: Sequence[int],
    look: Callable[[Encoder], Seen],
) -> Watched[Seen]:
    """Return a training with what was seen of its encoder after some epochs.

    Args:
        recipe: with source and split; its objective splits into two parts.
        place: where to train.
        name: of the run's folder at that place.
        epochs: at which to look; 0 is the untrained encoder.
        look: at an encoder; nothing of it may be kept.

    Raises:
        Undecidable: where the loss has no additive split.
    """
    watch = _Watch(epochs, look)
    encoder = trained(recipe, place, name, observers=[watch])
    seen = dict(watch.seen)
    if 0 in epochs:
        seen[0] = look(encoder.untrained(recipe.training.seed))
    return Watched(encoder, dict(sorted(seen.items())), LossCurves.of_rows(watch.rows))


class _Watch(Generic[Seen]):
    """An observer: keeps the losses of each step, and looks at the end of epochs."""

    def __init__(self, epochs: Sequence[int], look: Callable[[Encoder], Seen]) -> None:
        self._epochs, self._look = frozenset(epochs), look
        self._done = 0
        self.seen: dict[int, Seen] = {}
        self.rows: list[dict[str, object]] = []

    def __call__(self, snapshot: Snapshot) -> None:
        self.rows.append({"epoch": self._done + 1, **snapshot.losses})
        if snapshot.epoch > self._done:
            self._done = snapshot.epoch
            if self._done in self._epochs:
                self.seen[self._done] = self._look(snapshot.encoder)
