"""LightningCLI that builds the Trainer with the loggers and callbacks of this project."""

import os
import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateFinder, ProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from minillm.callbacks.checkpoint_io import AtomicCheckpointIO
from minillm.callbacks.checkpoints import Checkpoints
from minillm.callbacks.config_file import ConfigFile
from minillm.callbacks.final_validation import FinalValidation
from minillm.callbacks.forgetting import Forgetting
from minillm.callbacks.metrics_csv import MetricsCSVLogger
from minillm.callbacks.overfitting import Overfitting
from minillm.callbacks.random_states import RandomStates
from minillm.callbacks.training_metrics import TrainingMetrics
from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder
from minillm.checkpoint.validation import Checkpoint
from minillm.commands.exit_messages import exit_on_early_signal
from minillm.commands.lightning_support import check_callbacks, check_strategy, progress_bar
from minillm.commands.parser import first_union_error
from minillm.commands.saved_flags import (
    check_text,
)
from minillm.commands.settings_cli import SettingsCLI, as_list
from minillm.data.corpus import text_hashes
from minillm.data.windows import StepPartition
from minillm.errors import exit_on_wrong_input
from minillm.training.fine_tuning import initialize_from


class MiniLLMCLI(SettingsCLI):
    """LightningCLI of this project; the arguments are those of SettingsCLI."""

    def instantiate_classes(self) -> None:
        """Build the data module, the model and the Trainer; report their errors as errors of the configuration."""
        with exit_on_early_signal(), exit_on_wrong_input(MisconfigurationException, ImportError):
            try:
                self.config_init = self.parser.instantiate(self.config)
                self.datamodule, self.model = self.config_init.data, self.config_init.model
                self._check_text(self.datamodule.text_sha256)
                self.trainer = self.instantiate_trainer()
            except ValueError as error:
                # a changed text may be the cause of an error about its characters or its length
                self._check_text(text_hashes(self.config.data.corpus, self.config.data.val_corpus))
                raise ValueError(first_union_error(str(error))) from error
            if self.base is not None:
                initialize_from(self.base, self.model.model)

    def _check_text(self, hashes: dict[str, str]) -> None:
        if self.checkpoint is not None:
            check_text(self.checkpoint, hashes, self.config.data, resumes=self.command == "fit")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer, for training with callbacks, for evaluation with a progress bar only."""
        callbacks = self._callbacks()
        kwargs |= {"callbacks": callbacks, "logger": False, "default_root_dir": self.runs_folder}
        if SLURMEnvironment.detect():  # requeueing saves in the middle of a step, to a file that any run would read
            with exit_on_wrong_input(RuntimeError):  # SLURM's variables contradict each other
                environment = SLURMEnvironment(auto_requeue=False)
            kwargs["plugins"] = [*as_list(self.config_init.trainer.plugins), environment]
        trainer = super().instantiate_trainer(**kwargs)
        check_strategy(trainer)
        # it was read from environment variables, which another program may have left
        rank_zero_only.rank = trainer.global_rank  # pyright: ignore[reportFunctionMemberAccess]
        partition = StepPartition(self.datamodule.batch_size, trainer.world_size, trainer.accumulate_grad_batches)
        if self.command == "fit" and self.checkpoint is not None and trainer.is_global_zero:
            self._report_partition(self.checkpoint, partition)
        trainer.strategy.checkpoint_io = self.checkpoint_io = AtomicCheckpointIO(self.checkpoint)
        self.checkpoint = None
        if self.command != "fit":
            trainer.callbacks = [c for c in callbacks if isinstance(c, ProgressBar)]  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

    def _report_partition(self, saved: Checkpoint, partition: StepPartition) -> None:
        """Note how a resumed run divides its steps, if that has changed; warn of another batch_size."""
        before, now = (saved.num_processes, saved.num_batches), (partition.num_processes, partition.num_batches)
        if before != now:
            texts = [f"{processes} processes x {batches} accumulated batches" for processes, batches in (now, before)]
            self.notes.append(f"{texts[0]} instead of {texts[1]}: the same windows, but sums are rounded differently")
        if saved.data.get("batch_size") != partition.batch_size and self.datamodule.sampling == "shuffled":
            sizes = f"batch_size was {saved.data.get('batch_size')} and is now {partition.batch_size}"
            warnings.warn(f"this epoch repeats or leaves out windows: {sizes}", stacklevel=2)

    @property
    def runs_folder(self) -> Path:
        """The folder `lightning_logs/<name>` of a new run; Lightning gets it as the root of files of its own."""
        return Path(self.config.trainer.default_root_dir or "", RUNS_FOLDER, self.config.name).expanduser()

    def add_loggers(self, run: RunFolder) -> None:
        """Add the loggers of the run folder, followed by those of `--trainer.logger`."""
        step = self.resumed_step or 0
        purge_step = step + 1 if self.resumed_run else None  # drops the events of later steps, which are logged again
        path = Path(os.path.relpath(run.path))
        tensorboard = TensorBoardLogger(
            path.parent.parent, path.parent.name, path.name, default_hp_metric=False, purge_step=purge_step
        )
        configured: Any = self.config_init.trainer.logger
        others: list[Logger] = [] if configured in (True, False) else as_list(configured)
        self.trainer.loggers = [tensorboard, MetricsCSVLogger(run, step), *others, *self.extra_loggers]

    def _callbacks(self) -> list[Callback]:
        """Return the callbacks of `--trainer.callbacks`, followed by the built-in ones."""
        settings = self.config_init.trainer
        callbacks: list[Callback] = [*as_list(settings.callbacks), *self.extra_callbacks]
        check_callbacks(callbacks, self.config)
        self.configured_callbacks = [*callbacks]
        if self.resumed_step is not None:  # it has found the learning rate before the first step
            callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateFinder)]
        if self.command == "fit":
            texts = [
                self.parser.dump(config, skip_unset=False) for config in (self.run_config, self.parser.get_defaults())
            ]
            config = ConfigFile(texts[0], self.resumed_step or 0, texts[1])
            callbacks += [config, RandomStates(), TrainingMetrics(), FinalValidation(), Overfitting()]
        if self.base is not None:
            callbacks.append(Forgetting(self.base, self.datamodule))
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(progress_bar())
        return callbacks

    @property
    def checkpoints(self) -> Checkpoints:
        """Return the callback that saves checkpoints."""
        return next(callback for callback in self.trainer.checkpoint_callbacks if isinstance(callback, Checkpoints))
