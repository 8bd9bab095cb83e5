import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from minillm.training.schedule import Schedule, learning_rate_factor

STEPS = 13


def factors(schedule: Schedule, num_steps: float = STEPS, warmup_steps: int = 0, decay_fraction: float = 1.0):
    return [learning_rate_factor(step, num_steps, schedule, warmup_steps, decay_fraction) for step in range(STEPS)]


def torch_rates(scheduler_class: type[LRScheduler], **arguments: Any) -> list[float]:
    """Return the learning rates of a PyTorch scheduler with an initial learning rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = scheduler_class(optimizer, **arguments), []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_linear_decay_matches_torch():
    expected = torch_rates(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=STEPS)
    assert factors("linear") == pytest.approx(expected)


def test_cosine_decay_matches_torch():
    assert factors("cosine") == pytest.approx(torch_rates(CosineAnnealingLR, T_max=STEPS))


def test_a_constant_schedule_without_an_end_has_the_warmup_of_torch():
    expected = torch_rates(LinearLR, start_factor=1 / 5, end_factor=1.0, total_iters=4)
    assert factors("constant", num_steps=math.inf, warmup_steps=5) == pytest.approx(expected)


def test_a_constant_schedule_does_not_decay():
    assert factors("constant") == [1.0] * STEPS


def test_with_a_decay_fraction_the_rate_is_constant_between_warmup_and_decay():
    found = [learning_rate_factor(step, 10, "linear", 2, 0.4) for step in range(10)]
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


@given(
    num_steps=st.integers(1, 60),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup_steps=st.integers(0, 30),
    decay_fraction=st.floats(0.01, 1),
)
def test_the_rate_never_rises_after_warmup_and_is_never_zero_within_the_run(
    num_steps: int, schedule: Schedule, warmup_steps: int, decay_fraction: float
):
    found = [learning_rate_factor(n, num_steps, schedule, warmup_steps, decay_fraction) for n in range(num_steps)]
    assert all(0 < factor <= 1 for factor in found)
    assert all(after <= before for before, after in pairwise(found[max(warmup_steps - 1, 0) :]))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_flag_accepts_every_schedule(schedule: str, minillm: Callable[..., tuple[int, str, str]]):
    code, out, err = minillm("fit", "--config", "smoke", "--model.schedule", schedule, "--print_config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["model"]["schedule"] == schedule


def test_the_rate_is_zero_after_the_end():
    assert learning_rate_factor(12, 10, "linear", 0, 1.0) == 0
