"""LightningCLI with the defaults, argument links, loggers and callbacks of this project."""

import os
import shlex
import sys
import warnings
from operator import attrgetter
from pathlib import Path, PurePath
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from minillm.callbacks.attention_maps import AttentionMaps
from minillm.callbacks.checkpoint_io import AtomicCheckpointIO
from minillm.callbacks.checkpoints import Checkpoints
from minillm.callbacks.config_file import ConfigFile
from minillm.callbacks.final_validation import FinalValidation
from minillm.callbacks.forgetting import Forgetting
from minillm.callbacks.metrics_csv import MetricsCSVLogger
from minillm.callbacks.overfitting import Overfitting
from minillm.callbacks.progress import ProgressLines, StepProgressBar
from minillm.callbacks.random_states import RandomStates
from minillm.callbacks.samples import Samples
from minillm.callbacks.training_metrics import TrainingMetrics
from minillm.checkpoint.config_yaml import read_config
from minillm.checkpoint.find import find_checkpoint, read_checkpoint_to_resume
from minillm.checkpoint.format import FORMAT, versions
from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder, version_folder
from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.commands.exit_messages import exit_if_complete, exit_on_early_signal
from minillm.commands.parser import Parser, first_union_error
from minillm.commands.saved_flags import (
    FIXED_BY_RUN,
    FIXED_BY_WEIGHTS,
    check_compatible,
    check_text,
    saved_flags,
    shape_flags,
)
from minillm.commands.trainer_settings import TRAINER_DEFAULTS, check_run, check_schedule, check_trainer
from minillm.data.corpus import text_hashes
from minillm.data.datamodule import TextDataModule
from minillm.errors import exit_on_wrong_input, fail
from minillm.training.fine_tuning import initialize_from
from minillm.training.hardware import check_memory, choose_num_threads, fastest_precision
from minillm.training.module import LanguageModel
from minillm.training.resume import schedule_changes


class MiniLLMCLI(LightningCLI):
    """LightningCLI that links shared settings and takes defaults from the checkpoint.

    Args:
        command: `fit`, `validate` or `test`.
        flags: The command line after the command.
    """

    datamodule: TextDataModule
    model: LanguageModel

    def __init__(self, command: str, flags: list[str]) -> None:
        self.command = command
        self.checkpoint: Checkpoint | None = None  # to resume or evaluate; None again once the Trainer has it
        self.resumed_step: int | None = None
        self.base: Checkpoint | None = None  # source of the initial weights in fine-tuning
        self.resumed_run: RunFolder | None = None  # None if the run continues in a new folder
        self.resumed_file_time = 0  # modification time of the checkpoint to resume from, in nanoseconds
        self.command_line = shlex.join(["minillm", command, *flags])
        header = ", ".join(f"{package}=={version}" for package, version in versions().items())
        super().__init__(
            LanguageModel,
            TextDataModule,
            save_config_callback=None,  # ConfigFile saves it, without --ckpt_path
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=1337,
            parser_class=Parser,
            parser_kwargs={"prog": f"minillm {command}", "allow_abbrev": False, "dump_header": [header]},
            auto_configure_optimizers=False,  # the module configures its optimizer
            load_from_checkpoint_support=False,  # checkpoints contain plain values only
            args=flags,
            run=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the top-level settings of a configuration."""
        parser.add_argument("--format", type=int, default=FORMAT)
        parser.add_argument("--name", type=str, default="minillm")
        parser.add_argument("--version", type=int | str | None, default=None)
        super().add_default_arguments_to_parser(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the configurable callbacks, the argument links, `--init_from` and `--ckpt_path`."""
        parser.add_argument("--init_from", type=str | None, default=None)
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(AttentionMaps, "attention_maps")
        parser.link_arguments("data.context_length", "model.context_length")
        for target in ("model.vocab_size", "samples.tokenizer", "attention_maps.tokenizer"):
            get = attrgetter(target.rpartition(".")[2])
            parser.link_arguments("data", target, compute_fn=get, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the flags; with a checkpoint, its settings are the defaults, and the flags must match its weights."""
        default_name = parser.get_default("name")
        parser.set_defaults(name="")  # to know whether a name is given, for `--ckpt_path last`
        self.config = parser.parse_args([word for word in args if not word.startswith("--print_config")])
        parser.set_defaults(name=default_name)
        ckpt_path = self.config.ckpt_path
        has_init_from = any(word.partition("=")[0] == "--init_from" for word in args)
        if has_init_from and (self.command != "fit" or ckpt_path is not None):
            other = "--ckpt_path resumes a run" if self.command == "fit" else f"{self.command} evaluates --ckpt_path"
            fail(f"--init_from initializes a new run of fit, but {other}: leave out --init_from")
        if self.command == "fit" and ckpt_path is not None and self.config.trainer.fast_dev_run:
            fail("trainer.fast_dev_run tests a few steps of a new run, and cannot resume one: leave out --ckpt_path")
        if self.command == "fit" and ckpt_path is None:
            if self.config.init_from is not None:
                self._parse_with_base(parser, args)
            else:
                self.config = parser.parse_args(args)
        elif self.command == "fit":
            self._parse_to_resume(parser, args)
        else:
            self._parse_to_evaluate(parser, args)
        check_run(self.config)

    def _parse_to_evaluate(self, parser: LightningArgumentParser, args: Any) -> None:
        with exit_on_wrong_input():
            path = find_checkpoint("best" if self.config.ckpt_path is None else self.config.ckpt_path)
            self.checkpoint = read_checkpoint(path, torch.tensor)
        self._parse_with_checkpoint(parser, args, self.checkpoint, {})

    def _parse_to_resume(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse again; resume in the same run folder, unless the flags name another or that run has more steps."""
        with exit_on_wrong_input():
            name = PurePath(self.config.name).as_posix() if self.config.name else None
            self.checkpoint, run = read_checkpoint_to_resume(self.config.ckpt_path, torch.tensor, name)
            self.resumed_file_time = self.checkpoint.path.stat().st_mtime_ns
        self.resumed_step = self.checkpoint.step
        saved_run = RunFolder.of(self.checkpoint.path)
        defaults = {} if saved_run is None else {"name": saved_run.name}
        self._parse_with_checkpoint(parser, args, self.checkpoint, defaults)
        with exit_on_wrong_input(KeyError, TypeError):
            exit_if_complete(self.checkpoint, self.config.trainer)
        if run is not None and self._resumes_in_place(run):
            self.resumed_run = run
            with exit_on_wrong_input():
                self.config.init_from = read_config(run.config)[0].get("init_from")

    def _parse_with_checkpoint(
        self, parser: LightningArgumentParser, args: Any, checkpoint: Checkpoint, defaults: dict[str, Any]
    ) -> None:
        saved = saved_flags(checkpoint)
        known = {name: value for name, value in saved.items() if name in self.config}
        if unknown := saved.keys() - known.keys():
            names = ", ".join(sorted(unknown))
            message = f"{checkpoint.path} has settings of another version, which have no effect: {names}"
            warnings.warn(message, stacklevel=2)
        assert isinstance(parser, Parser)
        parser.check_settings(known, checkpoint.path)
        parser.set_defaults({**known, **defaults})
        self.config = parser.parse_args(args)
        self.config.ckpt_path = str(checkpoint.path)
        if isinstance(self.config.seed_everything, bool) or self.command != "fit":  # no effect on evaluation
            self.config.seed_everything = checkpoint.seed
        check_compatible(self.config, known, FIXED_BY_RUN, checkpoint.path)

    def _parse_with_base(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse again for fine-tuning; the weight shapes are those of the checkpoint that initializes the model."""
        with exit_on_wrong_input():
            path = find_checkpoint(self.config.init_from)
            self.base = read_checkpoint(path, torch.tensor)
        saved = shape_flags(self.base)
        parser.set_defaults({**saved, "data.grow_tokenizer": True})
        self.config = parser.parse_args(args)
        self.config.init_from = str(path)
        check_compatible(self.config, saved, FIXED_BY_WEIGHTS, path)
        context_length, positions = self.config.data.context_length, self.base.config.context_length
        if self.config.model.position == "learned" and context_length > positions:
            fail(
                f"--data.context_length {context_length} exceeds the {positions} learned position embeddings of {path}:"
                f" pass at most {positions} (rotary positions have no such limit)"
            )

    def _resumes_in_place(self, run: RunFolder) -> bool:
        """Whether the name, version and root folder in the settings are those of a run."""
        name, version, root = self.config.name, self.config.version, self.config.trainer.default_root_dir
        return (
            name == run.name
            and (version is None or version_folder(version) == run.path.name)
            and (root is None or Path(root, RUNS_FOLDER, name).expanduser().resolve() == run.path.parent.resolve())
        )

    def before_instantiate_classes(self) -> None:
        """Check the settings, choose the precision for the hardware, and insert the checkpoint's tokenizer."""
        settings = self.config
        check_trainer(settings.trainer)
        check_schedule(settings.model.schedule, settings.trainer)
        with exit_on_wrong_input():
            model, data = settings.model, settings.data
            check_memory(model.embed_dim, model.num_layers, model.num_heads, data.batch_size, data.context_length)
        choose_num_threads(data.batch_size, data.context_length, model.embed_dim)
        if settings.trainer.precision is None:
            settings.trainer.precision = fastest_precision(settings.trainer.accelerator)
        self.run_config = settings.clone()  # for config.yaml, which repeats the run
        self.run_config.pop("ckpt_path")
        if type(settings.trainer.val_check_interval) is int:  # Lightning counts batches, this project counts steps
            settings.trainer.val_check_interval *= settings.trainer.accumulate_grad_batches
        if self.checkpoint is not None:
            settings.data.tokenizer, settings.data.grow_tokenizer = self.checkpoint.tokenizer, False
        if self.base is not None:
            settings.data.tokenizer = self.base.tokenizer

    def instantiate_classes(self) -> None:
        """Build the data module, the model and the Trainer; report their errors as errors of the configuration."""
        with exit_on_early_signal(), exit_on_wrong_input(MisconfigurationException):
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
                initialize_from(self.base.weights, self.model.model)

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
            kwargs["plugins"] = [*_as_list(self.config_init.trainer.plugins), environment]
        trainer = super().instantiate_trainer(**kwargs)
        # it was read from environment variables, which another program may have left
        rank_zero_only.rank = trainer.global_rank  # pyright: ignore[reportFunctionMemberAccess]
        if self.command == "fit" and self.checkpoint is not None and trainer.is_global_zero:
            for message in schedule_changes(self.checkpoint.content, self.datamodule, trainer):
                warnings.warn(message, stacklevel=2)
        trainer.strategy.checkpoint_io = AtomicCheckpointIO(self.checkpoint)
        self.checkpoint = None
        if self.command != "fit":
            trainer.callbacks = [c for c in callbacks if isinstance(c, ProgressBar)]  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

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
        others: list[Logger] = [] if configured in (True, False) else _as_list(configured)
        self.trainer.loggers = [tensorboard, MetricsCSVLogger(run, step), *others]

    def _callbacks(self) -> list[Callback]:
        """Return the callbacks of `--trainer.callbacks`, followed by the built-in ones."""
        settings = self.config_init.trainer
        callbacks: list[Callback] = _as_list(settings.callbacks)
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
            fail("GradientAccumulationScheduler is not supported: pass --trainer.accumulate_grad_batches")
        if self.command == "fit":
            config = ConfigFile(self.parser.dump(self.run_config, skip_unset=False), self.resumed_step or 0)
            callbacks += [config, RandomStates(), TrainingMetrics(), FinalValidation(), Overfitting()]
        if self.base is not None:
            callbacks.append(Forgetting(self.base, self.datamodule))
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(StepProgressBar() if sys.stdout.isatty() else ProgressLines())
        return callbacks

    @property
    def checkpoints(self) -> Checkpoints:
        """Return the callback that saves checkpoints."""
        return next(callback for callback in self.trainer.checkpoint_callbacks if isinstance(callback, Checkpoints))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else [*value] if type(value) is list else [value]
