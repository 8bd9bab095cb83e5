"""The last number is about the last weights."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FinalValidation(Callback):
    """Validate after the last step too, where that is not on the grid of `val_check_interval`."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask the trainer to stop where it stops anyway: it validates before it does."""
        if trainer.global_step >= trainer.estimated_stepping_batches:
            trainer.should_stop = True
