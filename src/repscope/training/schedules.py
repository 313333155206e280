"""How large is the step, as a function of its number and of nothing else?

Because no state is carried, a run that was interrupted goes on with the same numbers.
"""

import math
from typing import Literal

from repscope.objectives.objective import MomentumSchedule

Schedule = Literal["cosine", "constant", "step"]


def learning_rate(
    step: int,
    *,
    base: float,
    warmup_steps: int,
    total_steps: int,
    final_fraction: float,
    schedule: Schedule = "cosine",
    milestones_steps: tuple[int, ...] = (),
    step_factor: float = 0.1,
) -> float:
    """Return the learning rate of a step.

    In the warm-up of w steps it is base (step + 1) / w. After it, with
    u = (step - w) / (total_steps - w) and the final rate f = base final_fraction,
    "cosine" gives f + (base - f) (1 + cos(pi u)) / 2, "constant" gives base, and "step"
    gives base step_factor^k after k milestones.

    Args:
        step: counted from 0.
        base: the greatest rate, reached by the last step of the warm-up.
        warmup_steps: 0 for none.
        total_steps: of the whole run.
        final_fraction: where "cosine" ends, as a share of `base`; in [0, 1].
        schedule: what comes after the warm-up.
        milestones_steps: of "step": the first steps with a smaller rate, counted from 0
            at the beginning of the run.
        step_factor: of "step": what each of them multiplies the rate by.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts; He et al.
        2016, section 3.4 (step); the linear warm-up is that of Goyal et al. 2017,
        section 2.2.
    Differs from the source in that the cosine falls with each step, not with each
        epoch, and in that He et al. divided where the error no longer fell.

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
    if schedule == "step":
        passed = sum(milestone <= step for milestone in milestones_steps)
        return base * step_factor**passed
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    final = base * final_fraction
    return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2


def momentum_at(
    step: int, base: float, total_steps: int, schedule: MomentumSchedule
) -> float:
    """Return the momentum with which a second network follows after a step.

    "constant" gives base; "cosine" gives 1 - (1 - base) (1 + cos(pi u)) / 2 with
    u = step / total_steps, at most 1: from base to 1, where it stands still.

    Args:
        step: counted from 0.
        base: the momentum at step 0, from 0 to 1.
        total_steps: of the whole run, from 1.
        schedule: as above.

    Source: Grill et al. 2020 (BYOL), section 3.3;
        google-deepmind/deepmind-research at f5de0ed, byol/utils/schedules.py.
    As in the source.

    Example:
        >>> [momentum_at(step, 0.9, 4, "cosine") for step in (0, 2, 4)]
        [0.9, 0.95, 1.0]
    """
    if schedule == "constant":
        return base
    progress = min(1.0, step / total_steps)
    return 1 - (1 - base) * (1 + math.cos(math.pi * progress)) / 2
