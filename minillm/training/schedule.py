"""Learning rate schedule: a pure function of the step, so that checkpoints need no scheduler state."""

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate_factor(
    step: int, num_steps: float, schedule: Schedule, warmup_steps: int, decay_fraction: float
) -> float:
    """Return the factor of the learning rate at a step: the product of a linear warmup and a decay to 0.

    A `decay_fraction` below 1 gives the warmup-stable-decay schedule. With 1 the decay spans the whole run, warmup
    included, and the factor does not quite reach 1.

    Args:
        step: Number of optimizer steps completed before this one.
        num_steps: Number of steps of the run; may be infinite if the schedule is `constant`.
        schedule: Shape of the decay: none, a straight line, or half a cosine.
        warmup_steps: Number of warmup steps.
        decay_fraction: Fraction of the run in which the rate decays, more than 0 and at most 1.

    Returns:
        A factor from 0 to 1, which is never 0 before the end of the run.

    Source: Loshchilov and Hutter 2017, "SGDR", equation 5 (cosine); Hu et al. 2024, "MiniCPM", section 4 (stable, then
    decay).
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "constant":
        return warmup
    remaining = min(1.0, max(0.0, 1 - step / num_steps) / decay_fraction)  # 1 to 0 in the decay phase
    return warmup * (remaining if schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2)
