"""Training metrics: loss, throughput and learning rate."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from minillm.data.datamodule import get_datamodule
from minillm.training.metrics import log


class TrainingMetrics(Callback):
    """Log `train_loss` of the step, `chars_per_second` without validation, and `lr` every `log_every_n_steps` steps."""

    def __init__(self) -> None:
        self._chars, self._seconds = 0.0, 0.0
        self._since: float | None = None
        self._loss: Tensor | float = 0.0  # of the step, summed over its accumulated batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the step that training starts from."""
        self._step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Tensor, batch_idx: int) -> None:
        """Start the clock, unless it is running."""
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Count characters, and log every `log_every_n_steps` steps."""
        chars_per_token = get_datamodule(trainer).chars_per_train_token
        self._chars += batch[:, 1:].numel() * trainer.world_size * chars_per_token
        loss = outputs.get("train_loss")
        # Lightning divides the loss that it minimizes by the number of accumulated batches
        self._loss += outputs["loss"] if loss is None else loss / trainer.accumulate_grad_batches
        if trainer.global_step == self._step:
            return  # gradient accumulation: the step is not complete
        self._step = trainer.global_step
        if is_logging_step(trainer):
            self._stop_clock()
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            loss = trainer.strategy.reduce(self._loss, reduce_op="mean")
            values: dict[str, Any] = {"train_loss": loss, "chars_per_second": self._chars / self._seconds, "lr": lr}
            log(pl_module, values)
            self._chars, self._seconds = 0.0, 0.0
        self._loss = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock until the next batch."""
        self._stop_clock()

    def _stop_clock(self) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None


def is_logging_step(trainer: Trainer) -> bool:
    """Return whether metrics are logged at this step: every `log_every_n_steps` steps, and never if that is 0."""
    every = int(trainer.log_every_n_steps)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
    return every > 0 and trainer.global_step % every == 0
