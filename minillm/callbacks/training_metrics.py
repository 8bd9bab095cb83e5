"""What is logged while training."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from minillm.data.datamodule import data_of
from minillm.training.module import log


class TrainingMetrics(Callback):
    """Log `train_loss` (of that step), `chars_per_second` (without validation) and `lr` every `log_every_n_steps`."""

    def __init__(self) -> None:
        self._chars, self._seconds = 0.0, 0.0
        self._since: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Tensor, batch_idx: int) -> None:
        """Start the clock, where it was stopped."""
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Count, and log when it is time."""
        chars_per_token = data_of(trainer).chars_per_train_token
        self._chars += batch[:, 1:].numel() * trainer.world_size * chars_per_token
        if trainer.global_step == self._step:
            return  # a batch of several whose gradients make one step
        self._step = trainer.global_step
        if is_logged(trainer):
            self._stop_clock()
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            loss: Tensor = outputs["loss"] * trainer.accumulate_grad_batches  # Lightning has divided it
            values: dict[str, Any] = {"train_loss": loss, "chars_per_second": self._chars / self._seconds, "lr": lr}
            log(pl_module, values)
            self._chars, self._seconds = 0.0, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock until the next step."""
        self._stop_clock()

    def _stop_clock(self) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None


def is_logged(trainer: Trainer) -> bool:
    """Whether this step is one of every `log_every_n_steps`; every 0 steps is never."""
    every = int(trainer.log_every_n_steps)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
    return every > 0 and trainer.global_step % every == 0
