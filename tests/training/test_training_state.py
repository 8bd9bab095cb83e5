"""Validation of the training state in a checkpoint, and settings that a resumed run takes from it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from minillm.training.module import LanguageModel
from minillm.training.resume import check_training_state, epochs_done


@pytest.fixture
def state(in_smoke_run: Path) -> dict[str, Any]:
    """The content of a checkpoint of step 20."""
    return torch.load(in_smoke_run / "checkpoints" / "last.ckpt", weights_only=True)


def check(state: dict[str, Any]) -> None:
    check_training_state(state, LanguageModel(**state["hyper_parameters"]).configure_optimizers())


def set_entry(state: Any, path: str, value: object) -> None:
    """Set a nested entry, given its keys separated by slashes."""
    *keys, last = (int(key) if key.isdecimal() else key for key in path.split("/"))
    for key in keys:
        state = state[key]
    state[last] = value


LOOPS = "loops/fit_loop"
STEPS = f"{LOOPS}/epoch_loop.automatic_optimization.optim_progress/optimizer/step/total/completed"
BATCHES = f"{LOOPS}/epoch_loop.batch_progress/total/processed"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optimizer_states", []),
        ("optimizer_states", [{}, {}]),
        ("optimizer_states/0/param_groups/0/params", [0]),
        ("optimizer_states/0/param_groups/1/params", []),
        ("optimizer_states/0/state/0", 1.0),
        ("optimizer_states/0/state/0/step", torch.ones(1)),
        ("optimizer_states/0/state/0/exp_avg", torch.ones(2)),
        ("optimizer_states/0/state/0/exp_avg", 0.5),
        ("optimizer_states/0/state/0/exp_avg_sq", torch.full((65, 16), float("nan"))),
        ("optimizer_states/0/state", {}),
        (STEPS, 19),
        (BATCHES, 19),  # fewer than steps
        (BATCHES, 20.0),
        (BATCHES, 2**62),
        ("random_states", []),
        ("callbacks/Checkpoints/best_val_loss", "low"),
        ("loops/fit_loop", {}),
        ("loops", None),
    ],
)
def test_a_training_state_that_does_not_match_the_weights_is_rejected(path: str, value: object, state: dict[str, Any]):
    set_entry(state, path, value)
    with pytest.raises(ValueError, match=r"^the training state does not match the weights"):
        check(state)


@pytest.mark.parametrize(("path", "value"), [(BATCHES, 20), (BATCHES, 2**62 - 1)])
def test_a_training_state_with_at_least_as_many_batches_as_steps_is_accepted(
    path: str, value: object, state: dict[str, Any]
):
    set_entry(state, path, value)
    check(state)


@pytest.mark.parametrize(("is_last_batch", "done"), [(False, 2), (True, 3)])
def test_an_epoch_is_complete_after_its_last_batch(is_last_batch: bool, done: int):
    progress = {
        "epoch_progress": {"current": {"ready": 3}},
        "epoch_loop.batch_progress": {"is_last_batch": is_last_batch},
    }
    assert epochs_done({"loops": {"fit_loop": progress}}) == done


def test_the_settings_of_a_resumed_run_override_those_of_its_checkpoint(state: dict[str, Any]):
    known: dict[str, Any] = state["hyper_parameters"]
    changes: dict[str, Any] = {"learning_rate": 0.5, "weight_decay": 0.25, "beta2": 0.75}
    module = LanguageModel(**{**known, **changes})
    (optimizer,) = copy.deepcopy(state["optimizer_states"])
    module.on_load_checkpoint({**state, "hyper_parameters": {**known, "future": 1}})
    assert dict(module.hparams) == {**known, **changes, "future": 1}
    (loaded,) = state["optimizer_states"]
    assert [group["params"] for group in loaded["param_groups"]] == [
        group["params"] for group in optimizer["param_groups"]
    ]
    assert [(group["lr"], group["weight_decay"], group["betas"]) for group in loaded["param_groups"]] == [
        (0.5, 0.25, (0.9, 0.75)),
        (0.5, 0.0, (0.9, 0.75)),
    ]
