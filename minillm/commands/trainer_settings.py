"""Default values and validation of the Trainer's settings."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from minillm.checkpoint.run_folder import RUNS_FOLDER
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
    "devices": 1,  # more only if they are asked for
    "use_distributed_sampler": False,  # the datamodule gives every rank its part of the windows
    "enable_model_summary": False,
}


def check_run(settings: Namespace) -> None:
    """Exit with an error on an invalid name, version or seed; normalize them."""
    for name, value in (("name", settings.name), ("version", settings.version)):
        path = PurePath("" if name == "name" and value is None else str(value))
        if not path.parts or path.is_absolute() or ".." in path.parts:
            fail(f"{name} must be a relative path below {RUNS_FOLDER}, got {value!r}")
    settings.name = PurePath(settings.name).as_posix()
    if settings.seed_everything is False:  # a run needs a seed to be resumable
        settings.seed_everything = True
    if not 0 <= settings.seed_everything < 2**32:
        fail(f"seed_everything must be from 0 to {2**32 - 1}, got {settings.seed_everything}")


def check_schedule(schedule: str, trainer: Namespace) -> None:
    """Exit with an error if the learning rate decays until the end of a run of unlimited length."""
    endless = trainer.max_steps < 0 and (trainer.max_epochs or -1) < 0
    if schedule != "constant" and endless:
        fail(f"model.schedule {schedule} decays to 0 at the end of the run: set trainer.max_steps or max_epochs")


def check_whole_steps(trainer: Namespace) -> None:
    """Exit with an error if an epoch or a validation could end between the accumulated batches of a step.

    What is saved there lacks the gradients of the step, so that a resumed run would differ.
    """
    num_batches, limit = trainer.accumulate_grad_batches, trainer.limit_train_batches
    if num_batches == 1:
        return
    if limit not in (None, 1.0) and type(limit) is not int:
        fail(f"trainer.limit_train_batches must be a number of steps with accumulate_grad_batches, got {limit}")
    if not isinstance(trainer.val_check_interval, int | float | None):
        fail("trainer.val_check_interval must be a number of steps with accumulate_grad_batches, not a time")


def check_trainer(trainer: Namespace) -> None:
    """Exit with an error on values that Lightning accepts but fails on later."""
    for name in ("max_steps", "max_epochs"):
        if trainer[name] == 0:
            fail(f"trainer.{name} must be at least 1, or -1 for no limit, got 0")
    if trainer.enable_checkpointing is False:
        fail("trainer.enable_checkpointing false is not supported: raise checkpoints.every_n_train_steps instead")
    if trainer.barebones:
        fail("trainer.barebones is not supported, because it disables checkpoints and metrics: leave it out")
    if trainer.accumulate_grad_batches < 1:
        fail(f"trainer.accumulate_grad_batches must be at least 1, got {trainer.accumulate_grad_batches}")
    check_whole_steps(trainer)
    if trainer.check_val_every_n_epoch == 0:
        fail("trainer.check_val_every_n_epoch must be at least 1, or null to validate by steps only, got 0")
    if trainer.overfit_batches:
        fail("trainer.overfit_batches is not supported with randomly drawn windows: pass a short --data.corpus instead")
    if str(trainer.precision) not in ("None", "32", "32-true", "16-mixed", "bf16-mixed"):
        fail(f"trainer.precision must be 32-true, bf16-mixed or 16-mixed (float32 weights), got {trainer.precision}")
    if isinstance(trainer.val_check_interval, int | float) and trainer.val_check_interval <= 0:
        fail(f"trainer.val_check_interval must be greater than 0, got {trainer.val_check_interval}")
    if trainer.log_every_n_steps is not None and trainer.log_every_n_steps < 0:
        fail(f"trainer.log_every_n_steps must be at least 1, or 0 to disable logging, got {trainer.log_every_n_steps}")


def num_parts(trainer: Namespace) -> int:
    """Return the number of batches into which the processes divide a step, as far as the settings say."""
    num_devices = int(trainer.devices) if str(trainer.devices).isdecimal() else 1
    return max(num_devices, 1) * trainer.num_nodes * trainer.accumulate_grad_batches
