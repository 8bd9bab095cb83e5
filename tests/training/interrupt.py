"""Callbacks that interrupt a training run, for tests."""

import os
import shutil
import signal
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Interrupt(Callback):
    """Send a signal to this process, once.

    Args:
        step: Optimizer step after which the signal is sent.
        during_validation: Send it during the validation after that step instead.
        signum: Number of the signal.
    """

    def __init__(self, step: int, during_validation: bool = False, signum: int = int(signal.SIGTERM)) -> None:
        self.step = step
        self.during_validation = during_validation
        self.signum = signum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step and not self.during_validation and trainer.is_global_zero:
            os.kill(os.getpid(), self.signum)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.global_step == self.step and self.during_validation and batch_idx == 1:
            os.kill(os.getpid(), self.signum)


class InterruptBatch(Callback):
    """Send a signal to this process after a batch, which may be one of several of a step.

    Args:
        batch: Number of the batch, counted from 1 over the whole run.
        signum: Number of the signal.
    """

    def __init__(self, batch: int, signum: int) -> None:
        self.batch = batch
        self.signum = signum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == self.batch:
            os.kill(os.getpid(), self.signum)


class SlowStart(Callback):
    """Wait before training starts for longer than a test waits."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        print("starting", flush=True)
        for _ in range(600):
            time.sleep(0.1)


class Sleep(Callback):
    """Sleep in step 12 for longer than a test waits."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 12:
            print("asleep", flush=True)
            for _ in range(600):
                time.sleep(0.1)


class DeleteRunFolder(Callback):
    """Delete the run folder after step 25."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 25 and trainer.log_dir:
            shutil.rmtree(trainer.log_dir)
