"""How the learning rate moves through a run: a pure function of the step, so that a resumed run needs nothing saved."""

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate_factor(
    step: int, num_steps: float, schedule: Schedule, warmup_steps: int, decay_fraction: float
) -> float:
    """What the learning rate is multiplied by at a step: up from 0, flat, and down to 0 again.

    With a `decay_fraction` below 1 it stays up before it falls ("warmup-stable-decay").

    Args:
        step: Optimizer steps done before this one.
        num_steps: Steps of the whole run; infinite if it has no end, which only a constant rate can do with.
        schedule: How it falls: not at all, in a straight line, or along half a cosine.
        warmup_steps: Steps in which it rises.
        decay_fraction: Which part of the run it falls in, more than 0 and at most 1.

    Returns:
        Between 0 and 1, and never 0 before the run's end.

    Source: Loshchilov and Hutter 2017, "SGDR", equation 5 (cosine); Hu et al. 2024, "MiniCPM", section 4 (stable, then
    decay).
    """
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "constant":
        return rise
    left = min(1.0, max(0.0, 1 - step / num_steps) / decay_fraction)  # from 1 to 0 in the part that falls
    return rise * (left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)
