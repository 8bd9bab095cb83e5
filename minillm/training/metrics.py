"""Metrics: their mean over all processes, and their way to the loggers."""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torchmetrics import CatMetric


def weighted_mean(losses: CatMetric) -> tuple[float, int]:
    """Return the mean of all processes' pairs of loss and weight, and the sum of the weights; reset the metric."""
    loss, weight = losses.compute().cpu().double().view(-1, 2).T
    losses.reset()
    return ((loss * weight).sum() / weight.sum()).float().item(), int(weight.sum())


def log(module: LightningModule, values: dict[str, Any], **kwargs: Any) -> None:
    """Write metrics to the loggers immediately, with the number of completed optimizer steps.

    In training, the loggers are called directly, because Lightning's `log_dict` writes training metrics only after the
    hooks that save checkpoints, counts steps from 0, and costs up to a millisecond per step. It still serves the
    progress bar, and evaluation, whose results it returns.

    Args:
        module: The module that is being trained.
        values: Metrics by name.
        kwargs: Further arguments of `log_dict`.
    """
    is_fitting = module.trainer.state.fn == TrainerFn.FITTING
    module.log_dict(values, prog_bar=True, logger=False if is_fitting else None, **kwargs)
    if is_fitting and not module.trainer.sanity_checking:
        for logger in module.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()}, module.global_step)
