"""Training progress: a progress bar in a terminal, lines of text elsewhere."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.progress import TaskID
from torch import Tensor

from minillm.callbacks.training_metrics import is_logging_step

MAX_TIME_LEFT = 1e9  # seconds that are worth printing
SECONDS_BETWEEN_LINES = 30  # of a validation


class StepProgressBar(RichProgressBar):
    """Lightning's progress bar without the epoch number, as runs are measured in steps."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the training and the validation loss."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[name] for name in ("train_loss", "val_loss") if name in metrics}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the epoch number by a fixed description."""
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(TaskID(self.train_progress_bar_id), description="training")  # pyright: ignore[reportUnknownArgumentType]


class ProgressLines(ProgressBar):
    """Print one line every `log_every_n_steps` steps and one per validation, for log files and pipes.

    A long validation prints a line every half minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._printed_at = 0.0
        self._started = 0.0, 0  # time and step

    def disable(self) -> None:
        """Turn printing off."""
        self._enabled = False

    def enable(self) -> None:
        """Turn printing on."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the time and the step."""
        self._started = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        """Print the training metrics, and the time that is left at the speed since the start."""
        is_step_complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if is_step_complete and is_logging_step(trainer):
            self._print(trainer, "train_loss", "chars_per_second", end=self._time_left(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the time."""
        self._printed_at = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print the number of batches from time to time."""
        if self._enabled and time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._printed_at = time.monotonic()
            totals = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
            print(f"validation: batch {batch_idx + 1}/{sum(totals):.0f}", flush=True)

    on_test_start, on_test_batch_end = on_validation_start, on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the validation metrics."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._print(trainer, "val_loss", "val_perplexity", "val_bits_per_char")

    def _time_left(self, trainer: Trainer) -> str:
        time_started, first_step = self._started
        seconds_per_step = (time.monotonic() - time_started) / max(trainer.global_step - first_step, 1)
        seconds = seconds_per_step * (trainer.estimated_stepping_batches - trainer.global_step)
        return f"  time_left {timedelta(seconds=round(seconds))}" if seconds < MAX_TIME_LEFT else ""

    def _print(self, trainer: Trainer, *names: str, end: str = "") -> None:
        metrics = [(name, trainer.callback_metrics[name].item()) for name in names if name in trainer.callback_metrics]
        values = [f"{name} {value:,.0f}" if value >= 1000 else f"{name} {value:.4f}" for name, value in metrics]
        if self._enabled:
            print(
                f"step {trainer.global_step}/{trainer.estimated_stepping_batches}",
                *values,
                sep="  ",
                end=f"{end}\n",
                flush=True,
            )
