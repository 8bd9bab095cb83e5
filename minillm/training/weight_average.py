"""Weight averaging: the mean of the weights over the last steps of a run."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.swa_utils import AveragedModel


class WeightAverage(Callback):
    """Average the model's weights after each of the last steps of a run, for validation and for checkpoints.

    With w_i the weights after step i, the average after step s is the mean of w_i over the steps i from S - N + 1 to s.
    Before them, and with N = 0, validation and checkpoints have the weights of training. A checkpoint with an average
    also has the weights of training, from which a resumed run continues.

    Args:
        num_steps: Number of averaged steps, N; S is the number of steps of the run.

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization"; Sanyal et al.
    2023, "Early Weight Averaging Meets High Learning Rates for LLM Pre-training" (within a decaying schedule).
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.average: AveragedModel | None = None  # None before the averaged steps
        self._start, self._newest = math.inf, 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average and the weights of training: Lightning has loaded the average into the module."""
        if "num_averaged" in checkpoint:
            self.average = AveragedModel(_model(pl_module))
            self.average.n_averaged.fill_(checkpoint["num_averaged"])
            pl_module.load_state_dict(checkpoint["training_weights"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the first averaged step; a run that has been made longer starts a new average."""
        self._start = trainer.estimated_stepping_batches - self.num_steps
        self._newest = trainer.global_step
        if trainer.global_step <= self._start or not self.num_steps:
            self.average = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights to the average, unless the step is not complete."""
        if trainer.global_step == self._newest:
            return
        self._newest = trainer.global_step
        if self.num_steps and trainer.global_step > self._start:
            self.average = self.average or AveragedModel(_model(pl_module))
            self.average.update_parameters(_model(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue with the weights of training."""
        self._swap(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Forget the average: after an exception, the module keeps the weights that it has."""
        self.average = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        self._swap(pl_module)
        self.average = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights of the checkpoint, beside those of training."""
        if self.average is None:
            return
        weights: dict[str, Any] = checkpoint["state_dict"]
        averages = {f"model.{name}": average.detach() for name, average in self.average.module.named_parameters()}
        checkpoint["training_weights"], checkpoint["state_dict"] = weights, weights | averages
        checkpoint["num_averaged"] = int(self.average.n_averaged)

    @torch.no_grad()
    def _swap(self, pl_module: LightningModule) -> None:
        """Exchange the weights of the model and their average."""
        if self.average is None:
            return
        averages, weights = self.average.module.parameters(), _model(pl_module).parameters()
        for average, weight in zip(averages, weights, strict=True):
            average.data, weight.data = weight.data, average.data


def _model(module: LightningModule) -> torch.nn.Module:
    model = module.model
    assert isinstance(model, torch.nn.Module)
    return model
