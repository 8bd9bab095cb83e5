"""Private names of Lightning that this project depends on; a test fails if one of them is renamed."""

from lightning.pytorch import Trainer


def validation_follows(trainer: Trainer) -> bool:
    """Return whether Lightning validates after the batch whose `on_train_batch_end` is running."""
    loop = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
