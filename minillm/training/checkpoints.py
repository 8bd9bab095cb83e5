"""When checkpoints are saved."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keep the weights with the best value so far in `checkpoints/best.ckpt`, judged after each validation.

    Args:
        monitor: The metric that decides.
        mode: `min` or `max`.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "min") -> None:
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )


class LastCheckpoint(ModelCheckpoint):
    """Keep the newest weights in `checkpoints/last.ckpt`, every so many steps and at the end of training.

    Args:
        every_n_train_steps: Steps between two saves.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, got {every_n_train_steps}")
        super().__init__(filename="last", every_n_train_steps=every_n_train_steps, enable_version_counter=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the run too, where it is not on the grid."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
