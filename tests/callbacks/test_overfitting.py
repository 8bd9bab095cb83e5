"""Report of overfitting, for given losses."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from minillm.callbacks.overfitting import Overfitting

Losses = list[tuple[float, float]]
RISING = [(3.0, 3.0), (2.0, 2.0), (2.2, 1.8), (2.2, 1.7), (2.3, 1.6), (2.3, 1.5), (2.4, 1.4), (2.5, 1.3), (2.6, 1.2)]


def validate(callback: Overfitting, step: int, val_loss: float, train_loss: float) -> None:
    metrics = {"val_loss": torch.tensor(val_loss), "train_loss": torch.tensor(train_loss)}
    trainer: Any = SimpleNamespace(
        callback_metrics=metrics, sanity_checking=False, global_step=step, is_global_zero=True
    )
    callback.on_validation_end(trainer, None)  # pyright: ignore[reportArgumentType]


def report(losses: Losses, capsys: pytest.CaptureFixture[str], resumed_at: int = -1) -> list[str]:
    """Validate every 100 steps; resume once with a new callback."""
    callback = Overfitting()
    for number, pair in enumerate(losses):
        if number == resumed_at:
            state, callback = callback.state_dict(), Overfitting()
            callback.load_state_dict(state)
        validate(callback, 100 * (number + 1), *pair)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("resumed_at", range(-1, len(RISING)))
def test_rising_val_loss_with_falling_train_loss_is_reported_once(resumed_at: int, capsys: pytest.CaptureFixture[str]):
    (line,) = report(RISING, capsys, resumed_at)
    assert line.startswith(
        "overfitting: since step 200, val_loss has risen from 2.0000 to 2.4000, while train_loss has fallen to 1.4000;"
    )


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param(RISING[:6], id="only four validations"),
        pytest.param([(3.0 - n / 10, 3.0 - n / 10) for n in range(20)], id="both fall"),
        pytest.param([(2.0, 2.0)] + [(2.02, 1.0)] * 10, id="val_loss is noisy"),
        pytest.param([(2.0, 2.0)] + [(2.5, 1.98)] * 10, id="train_loss does not fall"),
        pytest.param([(2.0, 2.0), (2.5, 1.5), (1.9, 1.4)] * 10, id="val_loss falls now and then"),
    ],
)
def test_other_losses_are_not_reported(losses: Losses, capsys: pytest.CaptureFixture[str]):
    assert report(losses, capsys) == []
