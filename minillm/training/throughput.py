"""How fast training goes, and with which learning rate."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Throughput(Callback):
    """Log `chars_per_second` (validation aside) and `lr` together with the training loss."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._chars, self._seconds, self._started = 0, 0.0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Count, and log every `log_every_n_steps` steps."""
        self._chars += batch[:, 1:].numel() * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:
            seconds = self._seconds + time.perf_counter() - self._started
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            pl_module.log_dict({"chars_per_second": self._chars / seconds, "lr": lr})
            self._chars, self._seconds, self._started = 0, 0.0, time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        if trainer.state.fn == "fit":
            self._seconds += time.perf_counter() - self._started

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        self._started = time.perf_counter()
