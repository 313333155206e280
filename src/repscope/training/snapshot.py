"""What does somebody who watches a training see, and what may they ask for?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from repscope.models.encoder import Encoder


@dataclass(frozen=True)
class Stop:
    """An observer's wish that training end here; all is saved as at its usual end.

    Args:
        reason: for the log and the encoder's card.
    """

    reason: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A training between two steps.

    Args:
        step: how many are done.
        epoch: how many are done.
        losses: name → value of the last step, None for what is no number: "total",
            "invariance" and "regularization" where the objective has that split,
            its parts and statistics, and "gradient_norm".
        encoder: as it is now, in evaluation mode. It is trained on: use it during the
            call only, copy what is to last, and do not change its weights.
        finished: whether this was the last step.
        folder: of the run; None where nothing is written.
    """

    step: int
    epoch: int
    losses: Mapping[str, float | None]
    encoder: Encoder
    finished: bool
    folder: Path | None = None


# Is called after every step; does nothing on those it has no use for.
Observer = Callable[[Snapshot], Stop | None]
