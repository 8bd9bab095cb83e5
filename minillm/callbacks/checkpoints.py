"""Checkpointing: save the latest and the best state of a training run, also on a signal."""

import math
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, StochasticWeightAveraging
from torch import Tensor

from minillm.callbacks.lightning_internals import validation_follows
from minillm.callbacks.training_metrics import is_logging_step
from minillm.checkpoint.run_folder import RunFolder
from minillm.training.interruption import DivergedError, StoppedError, StopRequest
from minillm.training.resume import check_processes_agree


class Checkpoints(Checkpoint):
    """Save the latest state to `checkpoints/last.ckpt`, and that of the lowest `val_loss` to `checkpoints/best.ckpt`.

    A step that ends with a validation is saved after the validation. So a resumed run neither repeats nor skips
    anything, and its curves have no gap. Ctrl-C (SIGINT) and SIGTERM also take effect at the end of a step: its
    state is saved, and training ends.

    Args:
        every_n_train_steps: Number of steps between saves of `last.ckpt`; the end of a run is always saved.
        keep_every_n_steps: Number of steps between checkpoints `step_N.ckpt` that are kept; by default none are.
    """

    def __init__(self, every_n_train_steps: int = 500, keep_every_n_steps: int | None = None) -> None:
        for name, steps in (("every_n_train_steps", every_n_train_steps), ("keep_every_n_steps", keep_every_n_steps)):
            if steps is not None and steps < 1:
                raise ValueError(f"{name} must be at least 1, got {steps}")
        self.every_n_train_steps = every_n_train_steps
        self.keep_every_n_steps = keep_every_n_steps
        self.best_val_loss = math.inf
        self.newest: tuple[Path, int] | None = None  # newest valid checkpoint and its step
        self.has_started = False  # whether setup is complete and any resumed state is restored
        self._last_step = self._completed_step = 0
        self._stop_request = StopRequest()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run folder, in every process because reading `log_dir` is a broadcast."""
        self.run = RunFolder(Path(trainer.log_dir or trainer.default_root_dir))

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save: the lowest `val_loss` so far."""
        return {"best_val_loss": self.best_val_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the lowest `val_loss`, unless the run folder is a new one, which has no `best.ckpt` yet."""
        if self.run.best.exists():
            self.best_val_loss = state_dict["best_val_loss"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handler, after Lightning has installed its own."""
        check_processes_agree(trainer)
        self.has_started = True
        self._last_step = self._completed_step = trainer.global_step
        if trainer.ckpt_path and trainer.global_step:  # at step 0, it is a temporary file of LearningRateFinder
            self.newest = Path(trainer.ckpt_path), trainer.global_step
        if trainer.received_sigterm:  # during setup
            self._stop_request.signum = signal.SIGTERM
        self._stop_request.install()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss, and save if due, unless a validation or the end of the epoch follows."""
        if trainer.global_step == self._last_step:
            return  # gradient accumulation: the step is not complete
        self._last_step = trainer.global_step
        loss: Tensor = outputs["loss"]
        checked = loss.is_cpu or is_logging_step(trainer)  # reading the loss from a GPU waits for its computation
        diverged = checked and not loss.isfinite().item()
        diverged, stop = _in_any_process(trainer, diverged, self._stop_request.signum is not None)
        if diverged:
            raise DivergedError(f"the loss is NaN or infinite at {_describe_step(trainer)}")
        batches = trainer.fit_loop.epoch_loop.batch_progress
        ends_epoch = batches.is_last_batch or batches.current.ready == trainer.num_training_batches
        if not validation_follows(trainer) and not ends_epoch:
            self._save_last_if_due(trainer, pl_module, stop)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if due; Lightning would repeat an epoch whose checkpoint was written before its end."""
        if self._completed_step != trainer.global_step:
            self._save_last_if_due(trainer, pl_module, *_in_any_process(trainer, self._stop_request.signum is not None))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save `best.ckpt` if `val_loss` is the lowest so far, and `last.ckpt` if due."""
        if trainer.sanity_checking:
            return
        val_loss = trainer.callback_metrics["val_loss"].item()
        if val_loss < self.best_val_loss:
            self.best_val_loss = val_loss
            self._save(trainer, pl_module, self.run.best)
        self._save_last_if_due(trainer, pl_module, *_in_any_process(trainer, self._stop_request.signum is not None))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights that StochasticWeightAveraging leaves in the model after the last step to `swa.ckpt`."""
        if any(isinstance(callback, StochasticWeightAveraging) for callback in getattr(trainer, "callbacks")):  # noqa: B009 - its class does not declare it
            self._save(trainer, pl_module, self.run.averaged)
            if trainer.is_global_zero:
                print(f"the averaged weights, which are not validated, are in {self.run.averaged}", flush=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the previous signal handlers."""
        self._stop_request.uninstall()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handlers: Lightning does not call `teardown` after an exception."""
        self._stop_request.uninstall()

    def _save_last_if_due(self, trainer: Trainer, module: LightningModule, stop: bool) -> None:
        self._completed_step = trainer.global_step
        if self.keep_every_n_steps and trainer.global_step % self.keep_every_n_steps == 0:
            self._save(trainer, module, self.run.kept(trainer.global_step))
        if stop or trainer.should_stop or trainer.global_step % self.every_n_train_steps == 0:
            self._save(trainer, module, self.run.last)
        if stop:
            raise StoppedError(self._stop_request.signum or signal.SIGTERM)

    def _save(self, trainer: Trainer, module: LightningModule, path: Path) -> None:
        for name, weight in module.named_parameters():
            if not weight.isfinite().all():
                raise DivergedError(f"{name} is NaN or infinite after {_describe_step(trainer)}")
        for logger in trainer.loggers:
            logger.save()  # metrics are on disk before the checkpoint of their step
        if not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            trainer.save_checkpoint(path)
            self.newest = path, trainer.global_step


def _in_any_process(trainer: Trainer, *conditions: bool) -> list[bool]:
    """Return which conditions hold in at least one process, so that all processes decide alike: one all-reduce."""
    if trainer.world_size == 1:
        return [*conditions]
    flags = torch.tensor(conditions, dtype=torch.int32, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return [flag.item() > 0 for flag in flags]


def _describe_step(trainer: Trainer) -> str:
    return f"step {trainer.global_step}, with learning rate {trainer.optimizers[0].param_groups[0]['lr']:g}"
