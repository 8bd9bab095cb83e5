"""The Trainer's settings: our defaults, and values that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minillm.errors import fail

if TYPE_CHECKING:
    from jsonargparse import Namespace

TRAINER_DEFAULTS = {
    "max_steps": 4000,
    "max_epochs": -1,
    "val_check_interval": 500,
    "check_val_every_n_epoch": None,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the datamodule gives every rank its own windows
    "enable_model_summary": False,
}


def check_schedule(schedule: str, trainer: Namespace) -> None:
    """Refuse a learning rate that falls until the end of a run that has none."""
    endless = trainer.max_steps < 0 and (trainer.max_epochs or -1) < 0
    if schedule != "constant" and endless:
        fail(f"model.schedule {schedule} falls to 0 at the end of the run: give trainer.max_steps or max_epochs")


def check_trainer(trainer: Namespace) -> None:
    """Refuse the values that Lightning takes and then stumbles over."""
    if trainer.max_steps == 0:
        fail("trainer.max_steps must be at least 1, or -1 for no limit, got 0")
    if trainer.accumulate_grad_batches < 1:
        fail(f"trainer.accumulate_grad_batches must be at least 1, got {trainer.accumulate_grad_batches}")
    if trainer.check_val_every_n_epoch == 0:
        fail("trainer.check_val_every_n_epoch must be at least 1, or null for steps alone, got 0")
    if trainer.overfit_batches:
        fail("trainer.overfit_batches has no meaning for windows drawn at random: give a short --data.corpus instead")
    if str(trainer.precision) not in ("None", "32", "32-true", "16-mixed", "bf16-mixed"):
        fail(f"trainer.precision must be 32-true, bf16-mixed or 16-mixed: weights are float32; got {trainer.precision}")
    if isinstance(trainer.val_check_interval, int | float) and trainer.val_check_interval <= 0:
        fail(f"trainer.val_check_interval must be more than 0, got {trainer.val_check_interval}")
    if trainer.log_every_n_steps is not None and trainer.log_every_n_steps < 0:
        fail(f"trainer.log_every_n_steps must be at least 1, or 0 for never, got {trainer.log_every_n_steps}")
