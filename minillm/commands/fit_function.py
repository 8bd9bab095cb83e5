"""`minillm.fit`: the training of the command line as a Python function."""

import json
import os
import threading
import warnings
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch import nn

from minillm.checkpoint.run_folder import RunFolder
from minillm.commands.fit import quiet_lightning, train
from minillm.commands.flags import SECTIONS, check_flag, resolve_config_names
from minillm.commands.trainer_cli import MiniLLMCLI
from minillm.errors import CommandExit, fail
from minillm.tokenizer import Tokenizer
from minillm.training.interruption import DivergedError

_LOCK = threading.RLock()  # reading a configuration changes the working folder of the process for a moment


@dataclass(frozen=True)
class FitResult:
    """Result of a training run.

    Args:
        model: The trained model with the weights of the last step, in eval mode on the CPU.
        tokenizer: Its tokenizer.
        val_loss: `val_loss` after the last step, in nats per token; None if the run ended without a validation.
        best_val_loss: The lowest `val_loss`, that of `best_checkpoint`.
        num_steps: Number of optimizer steps of the run, including those before it was resumed.
        run_folder: Folder of the run.
        best_checkpoint: Checkpoint with the lowest `val_loss`.
        last_checkpoint: Checkpoint of the last step.
    """

    model: nn.Module
    tokenizer: Tokenizer
    val_loss: float | None
    best_val_loss: float | None
    num_steps: int
    run_folder: Path
    best_checkpoint: Path | None
    last_checkpoint: Path | None


def fit(
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    callbacks: Callback | Iterable[Callback] | None = None,
    loggers: Logger | Iterable[Logger] | None = None,
    model_class: type[nn.Module] | None = None,
    **overrides: Any,
) -> FitResult:
    """Train a model as `minillm fit` does: with checkpoints, metrics and samples in a run folder.

    One training runs at a time: a call in another thread waits. Ctrl-C and SIGTERM are handled in the main thread only.

    Args:
        config: Name of a packaged configuration, path of a YAML file, or the content of one; by default that of the
            checkpoint in `ckpt_path` or `init_from`, or else the reference configuration.
        callbacks: Lightning callbacks in addition to those of the configuration.
        loggers: Lightning loggers in addition to those of the run folder.
        model_class: A model class of your own, as for `LanguageModel`.
        overrides: Settings that override the configuration: `name`, `version`, `seed_everything`, `ckpt_path` and
            `init_from` as on the command line; `data`, `model`, `trainer`, `checkpoints`, `samples` and
            `attention_maps` as dictionaries, such as `model={"learning_rate": 1e-3}`. None is the default.

    Returns:
        Losses, paths and the model.

    Raises:
        DivergedError: The loss or a weight is NaN or infinite.
        ValueError: A setting is wrong, a file cannot be written, or the run to resume is complete. The message says
            which, and what is saved.
        KeyboardInterrupt: Training was stopped by Ctrl-C, after a checkpoint was saved.
        SystemExit: It was stopped by SIGTERM, after a checkpoint was saved.
    """
    with _exits_as_errors():
        if isinstance(config, Mapping):
            flags = [*_to_flags(config), *_to_flags(overrides)]
        else:
            configs = [] if config is None else ["--config", str(config)]
            flags = [*resolve_config_names(configs), *_to_flags(overrides)]
        _check_class(model_class)
        added = _to_list(callbacks, Callback, "callbacks"), _to_list(loggers, Logger, "loggers")
        with _LOCK, _process_state_restored():
            quiet_lightning()
            cli = MiniLLMCLI("fit", flags, *added, model_class)
            train(cli)
    return _result(cli)


@contextmanager
def _exits_as_errors() -> Generator[None]:
    """Raise the exception of Python that corresponds to the exit code of a command."""
    try:
        yield
    except CommandExit as end:
        cause = end.__cause__ or end.__context__
        if isinstance(cause, DivergedError):
            raise DivergedError(end.message) from cause
        if end.code in (0, 2):
            raise ValueError(end.message) from cause
        if end.code == 130:
            raise KeyboardInterrupt(end.message) from None
        end.print_message()
        raise


def _check_class(model_class: Any) -> None:
    if model_class is not None and not (isinstance(model_class, type) and issubclass(model_class, nn.Module)):
        fail(f"model_class must be a class derived from torch.nn.Module, got {model_class!r}")


def _to_flags(settings: Mapping[str, Any]) -> list[str]:
    """Convert settings to flags: `{"model": {"num_layers": 2}}` to `--model.num_layers=2`."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        is_section = name in (*SECTIONS, "trainer")
        if name not in ("name", "version", "seed_everything", "ckpt_path", "init_from", "format") and not is_section:
            check_flag(name, "fit")  # suggests another name
            fail(f"{name} is not a setting of minillm.fit")
        if value is None:
            continue
        if is_section and not isinstance(value, Mapping):
            fail(f"{name} must be a dictionary of settings, got {value!r}")
        if is_section:
            values |= {f"{name}.{key}": item for key, item in cast("Mapping[str, Any]", value).items()}
        else:
            values[name] = value
    for name in values:
        check_flag(name, "fit")
    return [f"--{name}={_to_text(name, value)}" for name, value in values.items()]


def _to_text(name: str, value: Any) -> str:
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        hint = ""
        if name.startswith("trainer."):
            hint = ": pass callbacks and loggers to minillm.fit, and other objects by their class_path"
        fail(f"{name} must be a plain value, got {value!r}{hint}")


def _plain(value: Any) -> Any:
    """Convert a path, or a number of NumPy or PyTorch."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic | np.ndarray | torch.Tensor) and value.ndim == 0:
        return cast(Any, value.item())
    raise TypeError


def _to_list(values: Any, required: type[Any], name: str) -> list[Any]:
    """Return one object, several or none as a list."""
    objects = [] if values is None else [values] if isinstance(values, required) else [*values]
    for value in objects:
        if not isinstance(value, required):
            fail(f"{name} must be objects of Lightning's {required.__name__}, got {value!r}")
    return objects


@contextmanager
def _process_state_restored() -> Generator[None]:
    """Restore the warning filters, the number of threads and the seed of other Trainers when the context ends."""
    num_threads = torch.get_num_threads()
    variables = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(num_threads)
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _result(cli: MiniLLMCLI) -> FitResult:
    trainer, checkpoints = cli.trainer, cli.checkpoints
    val_loss = trainer.callback_metrics.get("val_loss")
    run = RunFolder(checkpoints.run.path.absolute())
    return FitResult(
        model=cli.model.model.eval(),
        tokenizer=cli.datamodule.tokenizer,
        val_loss=None if val_loss is None else val_loss.item(),
        best_val_loss=checkpoints.best_val_loss if np.isfinite(checkpoints.best_val_loss) else None,
        num_steps=trainer.global_step,
        run_folder=run.path,
        best_checkpoint=run.best if run.best.exists() else None,
        last_checkpoint=run.last if run.last.exists() else None,
    )
