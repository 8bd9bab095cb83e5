"""What is kept of a training, and when."""

import math
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from minillm.callbacks.lightning_internals import validation_follows
from minillm.callbacks.training_metrics import is_logged
from minillm.checkpoint.run_folder import RunFolder
from minillm.training.interruption import DivergedError, StoppedError, StopRequest


class Checkpoints(Checkpoint):
    """Keep the newest state in `checkpoints/last.ckpt`, and that of the lowest `val_loss` in `checkpoints/best.ckpt`.

    A step counts as done when everything about it is: where a validation belongs to it, the state is saved after that.
    So a run that goes on from here neither repeats nor skips anything, and its curves have no gap. Ctrl-C and SIGTERM
    are answered at such a moment too: the state is saved, and training ends.

    Args:
        every_n_train_steps: Steps between two saves of `last.ckpt`; the end of a run is always saved.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, got {every_n_train_steps}")
        self.every_n_train_steps = every_n_train_steps
        self.best_val_loss = math.inf
        self.newest: tuple[Path, int] | None = None  # the newest good checkpoint that is known, and its step
        self.has_begun = False  # training itself, with all that it goes on from restored
        self._seen_step = self._answered_step = 0
        self._stop = StopRequest()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run folder: every process asks, for the answer is broadcast."""
        self.run = RunFolder(Path(trainer.log_dir or trainer.default_root_dir))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_val_loss": self.best_val_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best so far, if it is still there; in a folder of its own a run has a best of its own."""
        if self.run.best.exists():
            self.best_val_loss = state_dict["best_val_loss"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals, now that Lightning has put up its own handlers."""
        self.has_begun = True
        self._seen_step = self._answered_step = trainer.global_step
        if trainer.ckpt_path:
            self.newest = Path(trainer.ckpt_path), trainer.global_step
        if trainer.received_sigterm:  # while everything was built
            self._stop.signum = signal.SIGTERM
        self._stop.listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End a training that has gone wrong; save, unless a validation comes first."""
        if trainer.global_step == self._seen_step:
            return  # a batch of several whose gradients make one step
        self._seen_step = trainer.global_step
        loss: Tensor = outputs["loss"]
        # asking a GPU means waiting for it
        watched = loss.is_cpu or is_logged(trainer)
        if watched and self._agreed(trainer, not loss.isfinite()):
            raise DivergedError(f"the loss is not a finite number any more at {_moment(trainer)}")
        batches = trainer.fit_loop.epoch_loop.batch_progress
        ends_epoch = batches.is_last_batch or batches.current.ready == trainer.num_training_batches
        if not validation_follows(trainer) and not ends_epoch:
            self._save_last(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch that no validation ends: a step earlier Lightning would repeat the epoch."""
        if self._answered_step != trainer.global_step:
            self._save_last(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        if trainer.sanity_checking:
            return
        val_loss = trainer.callback_metrics["val_loss"].item()
        if val_loss < self.best_val_loss:
            self.best_val_loss = val_loss
            self._save(trainer, pl_module, self.run.best)
        self._save_last(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave signals to whoever had them before."""
        self._stop.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As after training: Lightning tears down no callback here."""
        self._stop.close()

    def _save_last(self, trainer: Trainer, module: LightningModule) -> None:
        self._answered_step = trainer.global_step
        stop = self._agreed(trainer, self._stop.signum is not None)
        if stop or trainer.should_stop or trainer.global_step % self.every_n_train_steps == 0:
            self._save(trainer, module, self.run.last)
        if stop:
            raise StoppedError(self._stop.signum or signal.SIGTERM)

    def _save(self, trainer: Trainer, module: LightningModule, path: Path) -> None:
        for name, weight in module.named_parameters():
            if not weight.isfinite().all():
                raise DivergedError(f"{name} is not finite any more after {_moment(trainer)}")
        for logger in trainer.loggers:
            logger.save()  # what was logged is written before its step counts as done
        if not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            trainer.save_checkpoint(path)
            self.newest = path, trainer.global_step

    @staticmethod
    def _agreed(trainer: Trainer, here: bool) -> bool:
        """Whether it is so in any of the processes, which then all do the same."""
        return bool(trainer.strategy.reduce_boolean_decision(bool(here), all=False))


def _moment(trainer: Trainer) -> str:
    return f"step {trainer.global_step}, with learning rate {trainer.optimizers[0].param_groups[0]['lr']:g}"
