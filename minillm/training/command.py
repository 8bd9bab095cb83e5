"""`fit`, `validate` and `test`: LightningCLI with our defaults, our links and our run folder."""

import logging
import os
import re
import sys
import warnings
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from minillm.data.datamodule import TextDataModule
from minillm.errors import exit_on_wrong_input, fail
from minillm.generation.checkpoint import find
from minillm.generation.untrusted import read
from minillm.tokenizer import restored
from minillm.training.attention_maps import AttentionMaps
from minillm.training.checkpoint_io import WholeCheckpointIO
from minillm.training.checkpoints import Checkpoints
from minillm.training.config_file import ConfigFile
from minillm.training.ending import one_line_endings, one_line_interrupts
from minillm.training.final_validation import FinalValidation
from minillm.training.fine_tuning import KEPT, Forgetting, begin_from, describe, shape_settings
from minillm.training.memory import check_size, keep_freed_memory
from minillm.training.metrics_table import MetricsTable
from minillm.training.module import LanguageModel
from minillm.training.parser import Parser, first_reason
from minillm.training.precision import fastest_precision
from minillm.training.progress import Bar, Lines
from minillm.training.random_states import RandomStates
from minillm.training.resume import UNCHANGED, check_fits, epochs_done, is_elsewhere, run_to_continue, saved_settings
from minillm.training.samples import Samples
from minillm.training.trainer_settings import TRAINER_DEFAULTS, check_schedule, check_trainer
from minillm.training.training_metrics import TrainingMetrics

HARMLESS_WARNINGS = (
    "does not have many workers",  # a batch is one gather of 0.1 ms
    "You're resuming from a checkpoint that ended before the epoch ended",  # BatchNumbers goes on where it stopped
    "is smaller than the logging interval",  # the curves of a very short run have no points: so be it
    "Be aware that when using `ckpt_path`",  # measuring needs none of the callbacks that training had
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
        save_config_callback=None,  # ours leaves out what is about this one command
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=1337,
        parser_class=Parser,
        parser_kwargs={"prog": "minillm", "allow_abbrev": False},
        auto_configure_optimizers=False,  # the module's own, not a choice of any optimizer
        load_from_checkpoint_support=False,  # checkpoints hold plain values
        args=args,
    )


class MiniLLMCLI(LightningCLI):
    """LightningCLI where shared settings are given once, and a checkpoint brings its own."""

    checkpoint: dict[str, Any] | None = None  # what the command goes on from, or measures
    base: dict[str, Any] | None = None  # whose weights a new run begins with
    continued: Path | None = None  # the run folder that training goes on in

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods that are commands, and the arguments that are not flags."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the configurable callbacks, the links, and what is about the command."""
        parser.add_argument("--init_from", type=str | None, default=None)
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(AttentionMaps, "attention_maps")
        parser.link_arguments("data.context_length", "model.context_length")
        for target in ("model.vocab_size", "samples.tokenizer", "attention_maps.tokenizer"):
            get = attrgetter(target.rpartition(".")[2])
            parser.link_arguments("data", target, compute_fn=get, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; with a checkpoint, its settings are the defaults, and what is given has to fit its weights."""
        self.config = parser.parse_args(args)
        command = self.config.subcommand
        given = self.config[command].ckpt_path
        asked = any(word.partition("=")[0] == "--init_from" for word in Parser.given)
        if asked and (command != "fit" or given is not None):
            other = "--ckpt_path goes on with a run" if command == "fit" else f"{command} measures --ckpt_path"
            fail(f"--init_from begins a new run of fit with old weights, but {other}: leave it out")
        if command == "fit" and given is None:
            if self.config.fit.init_from is not None:
                self._parse_init_from(parser, args)
            return
        with exit_on_wrong_input():
            path = find("best" if given is None else given, in_folder="last" if command == "fit" else "best")
            self.checkpoint = read(path)
        saved = saved_settings(self.checkpoint)
        unknown = [name for name in saved if name not in self.config[command]]
        if unknown:
            fail(f"{path} has settings that are none of ours: {', '.join(unknown)}")
        self._subcommand_parsers[command].set_defaults(saved)
        self.config = parser.parse_args(args)
        settings = self.config[command]
        settings.ckpt_path, settings.weights_only = str(path), True
        if isinstance(settings.seed_everything, bool) or command != "fit":  # any will do, and windows follow the first
            settings.seed_everything = saved["seed_everything"]
        check_fits(settings, saved, UNCHANGED, path)
        if command == "fit":
            with exit_on_wrong_input(KeyError, TypeError):
                self._continue_run(settings, path)

    def _parse_init_from(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse again; the shape of the model is that of the checkpoint whose weights it begins with."""
        with exit_on_wrong_input():
            path = find(self.config.fit.init_from)
            self.base = read(path, torch.tensor)
        saved = shape_settings(self.base)
        self._subcommand_parsers["fit"].set_defaults({**saved, "data.grow_tokenizer": True})
        self.config = parser.parse_args(args)
        settings = self.config.fit
        settings.init_from = str(path)
        check_fits(settings, saved, KEPT, path)
        if settings.model.position == "learned" and settings.data.context_length > saved["data.context_length"]:
            fail(
                f"--data.context_length {settings.data.context_length} is more than the {saved['data.context_length']} "
                f"positions that {path} has learned: give no more (a model with rotary positions takes any number)"
            )

    def _continue_run(self, settings: Namespace, path: Path) -> None:
        """Train on in the checkpoint's run folder, unless another is asked for or that run has gone on since."""
        assert self.checkpoint is not None
        done, trainer = self.checkpoint["global_step"], settings.trainer
        if done >= trainer.max_steps > 0 or (
            (trainer.max_epochs or 0) > 0 and epochs_done(self.checkpoint) >= trainer.max_epochs
        ):
            print(f"{path} is at step {done}: nothing is left to train (--trainer.max_steps or max_epochs gives more)")
            sys.exit(0)
        run = run_to_continue(path, self.checkpoint)
        if run is not None and not is_elsewhere(trainer.logger, run, TRAINER_DEFAULTS["logger"]["init_args"]):
            self.continued = run
            settings.init_from = yaml.safe_load((run / "config.yaml").read_text("utf-8"))["init_from"]

    def _parse_ckpt_path(self) -> None:
        """Nothing: LightningCLI's version lets a checkpoint's settings override what is given."""

    def _set_seed(self) -> None:
        """Refuse a seed that is out of range like any other wrong setting; a run without one could not be resumed."""
        settings = self.config[str(self.subcommand)]
        settings.seed_everything = settings.seed_everything if settings.seed_everything is not False else True
        try:
            super()._set_seed()
        except ValueError as error:
            fail(f"seed_everything: {error}")

    def before_instantiate_classes(self) -> None:
        """Settle what depends on the machine, on the command and on the checkpoint."""
        settings = self.config[str(self.subcommand)]
        check_trainer(settings.trainer)
        check_schedule(settings.model.schedule, settings.trainer)
        with exit_on_wrong_input():
            model, data = settings.model, settings.data
            check_size(model.embed_dim, model.num_layers, model.num_heads, data.batch_size, data.context_length)
        if settings.trainer.precision is None:
            settings.trainer.precision = fastest_precision(settings.trainer.accelerator)
        self.repeating = settings.clone()  # from the beginning, as `fit --config` does with it
        self.repeating.update(Namespace(ckpt_path=None, weights_only=None))
        if self.subcommand != "fit":
            settings.trainer.logger = False  # measuring leaves no run folder behind
        if self.checkpoint is not None:
            settings.data.tokenizer, settings.data.grow_tokenizer = restored(self.checkpoint["tokenizer"]), False
        if self.base is not None:
            settings.data.tokenizer = restored(self.base["tokenizer"])
        if self.continued is not None:
            run = self.continued
            place = Namespace(save_dir=os.path.relpath(run.parent.parent), name=run.parent.name, version=run.name)
            settings.trainer.logger.init_args.update(place)  # pyright: ignore[reportAttributeAccessIssue]

    def instantiate_classes(self) -> None:
        """Build everything; what goes wrong here was configured wrongly."""
        with one_line_interrupts(), exit_on_wrong_input(MisconfigurationException):
            try:
                super().instantiate_classes()
            except ValueError as error:
                raise ValueError(first_reason(str(error))) from error
            if self.base is not None:
                begin_from(self.base, self.model.model)
                self.trainer.callbacks.append(Forgetting(self.base, self.datamodule))  # pyright: ignore[reportAttributeAccessIssue]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with the callbacks that are always on, and metrics.csv beside TensorBoard's events."""
        settings = self._get(self.config_init, "trainer")
        step = self.checkpoint["global_step"] if self.checkpoint else 0
        config = ConfigFile(self._parser(self.subcommand).dump(self.repeating, skip_none=False), step)
        given = settings.callbacks or []
        callbacks = [
            *(given if isinstance(given, list) else [given]),
            config,
            RandomStates(),
            TrainingMetrics(),
            FinalValidation(),
        ]
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Bar() if sys.stdout.isatty() else Lines())
        trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if isinstance(trainer.logger, TensorBoardLogger) and len(trainer.loggers) == 1:
            if self.continued:
                trainer.logger._kwargs["purge_step"] = step + 1  # what the curves show after it comes again
            trainer.loggers = [trainer.logger, MetricsTable(trainer.logger.log_dir, step)]
        if self.subcommand != "fit":  # the other callbacks are about training
            trainer.callbacks = [c for c in trainer.callbacks if isinstance(c, ProgressBar)]  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train; say in a line why it ended early, and what there is to go on from."""
        with one_line_endings(self.trainer, self._checkpoints):
            self.trainer.fit(**kwargs)

    @property
    def _checkpoints(self) -> Checkpoints:
        return next(callback for callback in self.trainer.checkpoint_callbacks if isinstance(callback, Checkpoints))

    def before_fit(self) -> None:
        """Say in a line what is going to happen."""
        folder = self.trainer.log_dir or "."  # asked in every process: the answer is broadcast
        if self.trainer.is_global_zero:
            if self.continued is None and any(Path(folder, "checkpoints").glob("*.ckpt")):
                fail(f"{folder} holds a run: go on in it with --ckpt_path {folder}, or give another version or folder")
            with exit_on_wrong_input():
                Path(folder).mkdir(parents=True, exist_ok=True)
            parameters = sum(parameter.numel() for parameter in self.model.parameters())
            data = self.datamodule
            text = f"{data.train.characters + data.val.characters:,} characters, {data.vocab_size:,} different tokens"
            where = f"{self.trainer.strategy.root_device.type} in {self.trainer.precision}"
            since = f", from step {self.checkpoint['global_step']}" if self.checkpoint else ""
            print(f"{parameters:,} parameters, {text}, {where}{since}, into {folder}", flush=True)
            if self.base is not None:
                init_from = self.config.fit.init_from
                print(f"begins with the weights of {init_from}, {describe(self.base, data)}", flush=True)

    def after_fit(self) -> None:
        """Say what came out and how to write with it."""
        kept = self._checkpoints
        if self.trainer.is_global_zero and kept.best.exists():
            path = os.path.relpath(kept.best)
            print(f"best val_loss {kept.best_val_loss:.4f}; now: minillm predict --ckpt_path {path}")
