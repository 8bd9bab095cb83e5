"""How far training is: a bar for those who watch a terminal, lines for the others."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.progress import TaskID
from torch import Tensor

from minillm.callbacks.training_metrics import is_logged


class StepProgressBar(RichProgressBar):
    """Lightning's bar, without its count of epochs, which mean nothing to a run that is measured in steps."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The two losses."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[name] for name in ("train_loss", "val_loss") if name in metrics}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the number of the epoch."""
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(TaskID(self.train_progress_bar_id), description="training")  # pyright: ignore[reportUnknownArgumentType]


class ProgressLines(ProgressBar):
    """Print a line every `log_every_n_steps` steps and at every validation, for logs and pipes."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True

    def disable(self) -> None:
        """Print nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Print how training goes."""
        step_is_done = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step_is_done and is_logged(trainer):
            self._print(trainer, "train_loss", "chars_per_second")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what validation measured."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._print(trainer, "val_loss", "val_perplexity", "val_bits_per_char")

    def _print(self, trainer: Trainer, *names: str) -> None:
        known = [(name, trainer.callback_metrics[name].item()) for name in names if name in trainer.callback_metrics]
        values = [f"{name} {value:,.0f}" if value >= 1000 else f"{name} {value:.4f}" for name, value in known]
        if self._enabled:
            print(f"step {trainer.global_step}/{trainer.estimated_stepping_batches}", *values, sep="  ", flush=True)
