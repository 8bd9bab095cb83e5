"""Validate the final weights of a run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FinalValidation(Callback):
    """Validate after the last step, even if it is not a multiple of `val_check_interval`."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Request a stop after the last step: Lightning validates before a requested stop."""
        if trainer.global_step >= trainer.estimated_stepping_batches:
            trainer.should_stop = True
