"""Callbacks and strategies of Lightning: tested with exact resume, untested, or refused."""

import sys
from typing import Any

import rich
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from minillm.callbacks.lightning_internals import starts_processes_without_command
from minillm.callbacks.progress import ProgressLines, StepProgressBar
from minillm.errors import fail

TESTED_CALLBACKS = (
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
)
REFUSED_CALLBACKS: dict[type[Callback], str] = {
    BatchSizeFinder: "batch_size is part of what a step is: pass --data.batch_size",
    GradientAccumulationScheduler: "pass --trainer.accumulate_grad_batches",
    Timer: "pass --trainer.max_time, which adds it",
}


def check_callbacks(callbacks: list[Callback], settings: Any) -> None:
    """Exit with an error if a callback does not work with the settings.

    Args:
        callbacks: The configured callbacks.
        settings: All settings.
    """
    for callback in callbacks:
        for refused, reason in REFUSED_CALLBACKS.items():
            if isinstance(callback, refused):
                fail(f"{refused.__name__} is not supported: {reason}")
        if isinstance(callback, StochasticWeightAveraging) and settings.trainer.max_steps > 0:
            fail(
                "StochasticWeightAveraging averages once per epoch, but with trainer.max_steps the run is one epoch:"
                " pass --trainer.max_steps -1 --trainer.max_epochs N, or EMAWeightAveraging, which averages over steps"
            )
        if isinstance(callback, WeightAveraging | StochasticWeightAveraging) and settings.model.average_last_steps:
            name = type(callback).__name__
            fail(f"{name} averages the weights, as model.average_last_steps does: pass --model.average_last_steps 0")
        if isinstance(callback, LearningRateFinder) and settings.model.optimizer != "adamw":
            fail("LearningRateFinder finds one learning rate, but muon has two: pass --model.optimizer adamw")


def check_strategy(trainer: Trainer) -> None:
    """Exit with an error if the Trainer starts processes that do not run the same command."""
    if starts_processes_without_command(trainer):
        fail("ddp_spawn, ddp_fork and ddp_notebook are not supported: pass --trainer.strategy ddp, in a script")
    if isinstance(trainer.strategy, ModelParallelStrategy):
        fail("ModelParallelStrategy is not supported: pass --trainer.strategy ddp")


def untested(trainer: Trainer, callbacks: list[Callback]) -> list[str]:
    """Return the names of the callbacks and the strategy that are not tested with exact resume.

    Args:
        trainer: The Trainer.
        callbacks: The configured callbacks.
    """
    names = [type(callback).__name__ for callback in callbacks if not isinstance(callback, TESTED_CALLBACKS)]
    is_tested = isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy)
    return names if is_tested else [*names, type(trainer.strategy).__name__]


def progress_bar() -> ProgressBar:
    """Return the progress display: a bar in a terminal or a notebook, else lines of text."""
    if rich.get_console().is_jupyter:
        return TQDMProgressBar(refresh_rate=20)
    return StepProgressBar() if sys.stdout.isatty() else ProgressLines()
