"""LightningCLI up to the settings: flags, configuration files, and the settings of a checkpoint."""

import shlex
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path, PurePath
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from torch import nn

from minillm.callbacks.attention_maps import AttentionMaps
from minillm.callbacks.checkpoints import Checkpoints
from minillm.callbacks.samples import Samples
from minillm.checkpoint.config_yaml import read_config
from minillm.checkpoint.find import find_checkpoint, find_run_to_continue, read_checkpoint_to_resume
from minillm.checkpoint.format import FORMAT, versions
from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder, version_folder
from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.commands.exit_messages import exit_if_complete
from minillm.commands.parser import Parser
from minillm.commands.saved_flags import (
    FIXED_BY_RUN,
    FIXED_BY_WEIGHTS,
    TEXT_FORMAT,
    check_compatible,
    saved_flags,
    shape_flags,
)
from minillm.commands.trainer_settings import TRAINER_DEFAULTS, check_run, check_schedule, check_trainer, num_parts
from minillm.data.datamodule import TextDataModule
from minillm.data.text_files import TextFormat
from minillm.errors import exit_on_wrong_input, fail
from minillm.model.custom import class_path
from minillm.training.hardware import check_memory, choose_num_threads, fastest_precision
from minillm.training.interruption import is_restart
from minillm.training.module import LanguageModel


class SettingsCLI(LightningCLI):
    """LightningCLI that links shared settings, and takes defaults from the checkpoint to resume or evaluate.

    Args:
        command: `fit`, `validate` or `test`.
        flags: The command line after the command.
        callbacks: Callbacks in addition to those of the command line.
        loggers: Loggers in addition to those of the command line and the run folder.
        model_class: Model class in place of that of the command line.
    """

    datamodule: TextDataModule
    model: LanguageModel

    def __init__(
        self,
        command: str,
        flags: list[str],
        callbacks: Iterable[Callback] = (),
        loggers: Iterable[Logger] = (),
        model_class: type[nn.Module] | None = None,
    ) -> None:
        self.command = command
        self.extra_callbacks, self.extra_loggers, self.custom_model_class = [*callbacks], [*loggers], model_class
        self.checkpoint: Checkpoint | None = None  # to resume or evaluate; None again once the Trainer has it
        self.resumed_step: int | None = None
        self.base: Checkpoint | None = None  # source of the initial weights in fine-tuning
        self.resumed_run: RunFolder | None = None  # None if the run continues in a new folder
        self.notes: list[str] = []  # printed when training starts
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
        if self.command == "fit" and self.config.ckpt_path in (["auto", None] if is_restart() else ["auto"]):
            args = self._resume_or_start(args, default_name)
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

    def _resume_or_start(self, args: list[str], default_name: str) -> list[str]:
        """Return flags that resume the newest run of the name, or start one if that run has no checkpoint."""
        name = PurePath(self.config.name or default_name).as_posix()
        run = find_run_to_continue(name, self.config.version, self.config.trainer.default_root_dir)
        self.config.ckpt_path = None if run is None else str(run)
        if run is None:
            return [*args, "--ckpt_path=null"]
        self.notes.append(f"resuming {run}")
        return [*_without_init_from(args), f"--ckpt_path={run}"]

    def _parse_to_evaluate(self, parser: LightningArgumentParser, args: Any) -> None:
        with exit_on_wrong_input():
            path = find_checkpoint("best" if self.config.ckpt_path is None else self.config.ckpt_path, self._read)
            self.checkpoint = self._read(path)
        saved = self.checkpoint
        defaults: dict[str, Any] = {}
        if "batch_size" in saved.data:  # a batch of one process: a whole step may need more memory than there is
            defaults["data.batch_size"] = saved.data["batch_size"] // (saved.num_processes * saved.num_batches)
        self._parse_with_checkpoint(parser, args, saved, defaults)

    def _parse_to_resume(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse again; resume in the same run folder, unless the flags name another or that run has more steps."""
        with exit_on_wrong_input():
            name = PurePath(self.config.name).as_posix() if self.config.name else None
            self.checkpoint, run = read_checkpoint_to_resume(self.config.ckpt_path, self._read, name)
            self.resumed_file_time = self.checkpoint.path.stat().st_mtime_ns
        self.resumed_step = self.checkpoint.step
        old, new = (data.get("batch_size") for data in (self.checkpoint.saved_data, self.checkpoint.data))
        if old != new:
            self.notes.append(f"data.batch_size {old}, of one batch of one process, is now {new}, that of a step")
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
        callbacks = [*as_list(self.config.trainer.callbacks), *self.extra_callbacks]
        if any("LearningRateFinder" in str(callback) for callback in callbacks):
            self.config.model.learning_rate = checkpoint.hyper_parameters["learning_rate"]  # the one that it has found
        fixed = FIXED_BY_RUN if self.command != "fit" else (*FIXED_BY_RUN, *TEXT_FORMAT)
        check_compatible(self.config, known, fixed, checkpoint.path)

    def _parse_with_base(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse again for fine-tuning; the weight shapes are those of the checkpoint that initializes the model."""
        with exit_on_wrong_input():
            path = find_checkpoint(self.config.init_from, self._read)
            self.base = self._read(path)
        saved = shape_flags(self.base)
        text_format = {f"data.{name}": value for name, value in asdict(TextFormat.of(self.base.data)).items()}
        parser.set_defaults({**saved, **text_format, "data.grow_tokenizer": True})
        self.config = parser.parse_args(args)
        self.config.init_from = str(path)
        check_compatible(self.config, saved, FIXED_BY_WEIGHTS, path)
        context_length, positions = self.config.data.context_length, self.base.config.context_length
        if self.config.model.position == "learned" and context_length > positions:
            fail(
                f"--data.context_length {context_length} exceeds the {positions} learned position embeddings of {path}:"
                f" pass at most {positions} (rotary positions have no such limit)"
            )

    def _read(self, path: Path) -> Checkpoint:
        """Read a checkpoint, which may have parts of the model class of this run."""
        has_model_class = self.custom_model_class is not None or self.config.model.model_class is not None
        return read_checkpoint(path, torch.tensor, allow_custom_parts=has_model_class)

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
            part_size = data.batch_size // num_parts(settings.trainer)
            check_memory(model.embed_dim, model.num_layers, model.num_heads, part_size, data.context_length)
        choose_num_threads(part_size, data.context_length, model.embed_dim)
        if settings.trainer.precision is None:
            settings.trainer.precision = fastest_precision(settings.trainer.accelerator)
        if self.custom_model_class is not None:
            if "<locals>" in self.custom_model_class.__qualname__:  # config.yaml could not name it
                fail(f"model_class must be at the top level of a module, got {class_path(self.custom_model_class)}")
            settings.model.model_class = self.custom_model_class
        self.run_config = settings.clone()  # for config.yaml, which repeats the run
        self.run_config.pop("ckpt_path")
        for name in ("val_check_interval", "limit_train_batches", "limit_val_batches"):
            if type(settings.trainer[name]) is int:  # Lightning counts batches, this project counts steps
                settings.trainer[name] *= settings.trainer.accumulate_grad_batches
        if self.checkpoint is not None:
            settings.data.tokenizer, settings.data.grow_tokenizer = self.checkpoint.tokenizer, False
        if self.base is not None:
            settings.data.tokenizer = self.base.tokenizer


def _without_init_from(args: list[str]) -> list[str]:
    """Drop `--init_from PATH` and `--init_from=PATH`: a run that resumes has its weights."""
    pairs = zip(["", *args], args, strict=False)
    return [word for before, word in pairs if "--init_from" not in (before, word.partition("=")[0])]


def as_list(value: Any) -> list[Any]:
    """Return a setting that may be a list, a single value or None as a list."""
    return [] if value is None else [*value] if type(value) is list else [value]
