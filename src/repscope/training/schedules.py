"""How large is the step, as a function of its number and of nothing else?

Because no state is carried, a run that was interrupted goes on with the same numbers.
"""

import math
from typing import Literal

Schedule = Literal["cosine", "constant"]


def learning_rate(
    step: int,
    *,
    base: float,
    warmup_steps: int,
    total_steps: int,
    final_fraction: float,
    schedule: Schedule = "cosine",
) -> float:
    """Return the learning rate of a step.

    In the warm-up of w steps it is base (step + 1) / w. After it, with
    u = (step - w) / (total_steps - w) and the final rate f = base final_fraction,
    "cosine" gives f + (base - f) (1 + cos(pi u)) / 2 and "constant" gives base.

    Args:
        step: counted from 0.
        base: the greatest rate, reached by the last step of the warm-up.
        warmup_steps: 0 for none.
        total_steps: of the whole run.
        final_fraction: where "cosine" ends, as a share of `base`; in [0, 1].
        schedule: what comes after the warm-up.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts; the linear
        warm-up is that of Goyal et al. 2017, section 2.2.
    Differs from the source in that it falls with each step, not with each epoch.

    Example:
        >>> rates = [
        ...     learning_rate(
        ...         step, base=1.0, warmup_steps=2, total_steps=6, final_fraction=0.0
        ...     )
        ...     for step in range(6)
        ... ]
        >>> [round(rate, 3) for rate in rates]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    if schedule == "constant":
        return base
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    final = base * final_fraction
    return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2
