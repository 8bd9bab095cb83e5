"""Private names of Lightning that this project depends on; a test fails if one of them is renamed."""

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher  # pyright: ignore[reportPrivateUsage]


def validation_follows(trainer: Trainer) -> bool:
    """Return whether Lightning validates after the batch whose `on_train_batch_end` is running."""
    loop = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # pyright: ignore[reportPrivateUsage, reportArgumentType]


def starts_processes_without_command(trainer: Trainer) -> bool:
    """Return whether a Trainer forks this process, or pickles the model for new ones, instead of running a command."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
