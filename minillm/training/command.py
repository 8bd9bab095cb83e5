"""`fit`, `validate` and `test`: LightningCLI with our defaults, our links and our run folder."""

import logging
import os
import re
import sys
import warnings
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from minillm.data import TextDataModule
from minillm.errors import OneLineErrors, exit_on_wrong_input, fail
from minillm.generation.checkpoint import RUNS, find, load, read
from minillm.training.attention_maps import AttentionMaps
from minillm.training.checkpoints import BestCheckpoint, LastCheckpoint
from minillm.training.final_validation import FinalValidation
from minillm.training.memory import keep_freed_memory
from minillm.training.module import LanguageModel
from minillm.training.precision import fastest_precision
from minillm.training.progress import Bar, Lines
from minillm.training.samples import Samples
from minillm.training.training_metrics import TrainingMetrics

TRAINER_DEFAULTS = {
    "max_steps": 4000,
    "max_epochs": -1,
    "val_check_interval": 500,
    "check_val_every_n_epoch": None,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the datamodule gives every rank its own windows
    "enable_model_summary": False,
    "logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": str(RUNS), "name": "minillm", "default_hp_metric": False},
    },
}
HARMLESS_WARNINGS = (
    "does not have many workers",  # a batch is one gather of 0.1 ms
    "Experiment logs directory",  # CSVLogger finds the folder that TensorBoardLogger has just made
    "You're resuming from a checkpoint that ended before the epoch ended",  # BatchNumbers goes on where it stopped
    "is smaller than the logging interval",  # the curves of a very short run have no points: so be it
    "Be aware that when using `ckpt_path`",  # measuring needs none of the callbacks that training had
    "The dirpath has changed from",  # a resumed run keeps its checkpoints in a folder of its own
    "`isinstance(treespec, LeafSpec)` is deprecated",  # Lightning's own business
)


def run(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Args:
        args: The command line, from the subcommand on.
    """
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # LightningCLI's own business
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", f"(?s).*{re.escape(message)}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    keep_freed_memory()
    MiniLLMCLI(
        LanguageModel,
        TextDataModule,
        save_config_callback=SaveConfigOfFit,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=1337,
        parser_class=Parser,
        parser_kwargs={"prog": "minillm"},
        auto_configure_optimizers=False,  # the module's own, not a choice of any optimizer
        load_from_checkpoint_support=False,  # checkpoints hold plain values
        args=args,
    )


class Parser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with short errors that name the configuration file they are in."""

    reading: str | None = None

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file."""
        self.reading = str(cfg_path)
        try:
            config = super().parse_path(cfg_path, *args, **kwargs)
        except UnicodeDecodeError as error:
            self.error(f"not UTF-8 text: {error}")
        self.reading = None
        return config

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Leave with exit code 2."""
        super().error(f"{self.reading}: {message}" if self.reading else message)


class SaveConfigOfFit(SaveConfigCallback):
    """Keep the resolved configuration of a training run, and of nothing else, in its folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml."""
        if stage == "fit" and trainer.loggers:
            super().setup(trainer, pl_module, stage)


class MiniLLMCLI(LightningCLI):
    """LightningCLI where shared settings are given once, and a checkpoint brings its own."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods that are commands, and the arguments that are not flags."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the configurable callbacks and the links."""
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(AttentionMaps, "attention_maps")
        parser.link_arguments("data.context_length", "model.context_length")
        parser.link_arguments("data.vocab_size", "model.vocab_size", apply_on="instantiate")
        for target in ("samples.tokenizer", "attention_maps.tokenizer"):
            parser.link_arguments("data", target, compute_fn=attrgetter("tokenizer"), apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; with a checkpoint, its settings are the defaults, and what is given has to fit its weights."""
        self.config = parser.parse_args(args)
        command = self.config.subcommand
        if command == "fit" and self.config.fit.ckpt_path is None:
            return
        with exit_on_wrong_input():
            asked = self.config[command].ckpt_path
            path = find("best" if asked is None else asked, in_folder="last" if command == "fit" else "best")
            load(path)  # whole and consistent, or refused here
            checkpoint = read(path)
        saved = {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items()}
        saved["data.context_length"] = saved.pop("model.context_length")
        saved |= {f"data.{name}": value for name, value in checkpoint["datamodule_hyper_parameters"].items()}
        saved["seed_everything"] = checkpoint["seed"]
        del saved["model.vocab_size"]  # comes with the tokenizer
        self._subcommand_parsers[command].set_defaults(saved)
        self.config = parser.parse_args(args)
        settings = self.config[command]
        for name in ("data.context_length", "model.embed_dim", "model.num_layers", "model.num_heads"):
            if settings[name] != saved[name]:
                fail(f"--{name} {settings[name]} does not fit {path}, trained with {saved[name]}: leave it out")
        settings.ckpt_path, settings.weights_only = str(path), True
        alphabet = Namespace(alphabet=checkpoint["tokenizer"]["alphabet"])
        settings.data.tokenizer = Namespace(class_path="minillm.tokenizer.CharTokenizer", init_args=alphabet)

    def _parse_ckpt_path(self) -> None:
        """Nothing: LightningCLI's version lets a checkpoint's settings override what is given."""

    def _set_seed(self) -> None:
        """Refuse a seed that is out of range like any other wrong setting."""
        try:
            super()._set_seed()
        except ValueError as error:
            fail(f"seed_everything: {error}")

    def before_instantiate_classes(self) -> None:
        """Settle what depends on the machine and on the command."""
        trainer = self.config[str(self.subcommand)].trainer
        if trainer.precision is None:
            trainer.precision = fastest_precision(trainer.accelerator)
        if self.subcommand != "fit":
            trainer.logger = False  # measuring leaves no run folder behind

    def instantiate_classes(self) -> None:
        """Build everything; what goes wrong here was configured wrongly."""
        with exit_on_wrong_input(MisconfigurationException):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with the callbacks that are always on, and metrics.csv beside TensorBoard's events."""
        settings = self._get(self.config_init, "trainer")
        callbacks = [*(settings.callbacks or []), TrainingMetrics(), FinalValidation()]
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Bar() if sys.stdout.isatty() else Lines())
        trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        if isinstance(trainer.logger, TensorBoardLogger) and len(trainer.loggers) == 1:
            events = trainer.logger
            table = CSVLogger(events.save_dir, events.name, events.version, flush_logs_every_n_steps=1)
            trainer.loggers = [events, table]
        if self.subcommand != "fit":  # the other callbacks are about training
            trainer.callbacks = [c for c in trainer.callbacks if isinstance(c, ProgressBar)]  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train; an interrupted training leaves like any other interrupted program."""
        try:
            self.trainer.fit(**kwargs)
        except SystemExit:
            if not self.trainer.interrupted:
                raise
            sys.exit(143 if self.trainer.received_sigterm else 130)

    def before_fit(self) -> None:
        """Say in a line what is going to happen."""
        folder = self.trainer.log_dir or "."  # asked on every rank: the answer is broadcast
        if self.trainer.is_global_zero:
            with exit_on_wrong_input():
                Path(folder).mkdir(parents=True, exist_ok=True)
            parameters = sum(parameter.numel() for parameter in self.model.parameters())
            text = f"{len(self.datamodule.text):,} characters ({self.datamodule.vocab_size} different)"
            where = f"{self.trainer.strategy.root_device.type} in {self.trainer.precision}"
            print(f"{parameters:,} parameters, {text}, {where}, into {folder}", flush=True)

    def after_fit(self) -> None:
        """Say what came out and how to write with it."""
        best = next(c for c in self.trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint))
        if self.trainer.is_global_zero and best.best_model_score is not None:
            path = os.path.relpath(best.best_model_path)
            print(f"best {best.monitor} {best.best_model_score:.4f}; now: minillm predict --ckpt_path {path}")
