"""`minillm.fit`: the training of the command line as a Python function."""

import json
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

from minillm.commands.fit import quiet_lightning, train
from minillm.commands.flags import check_flag, resolve_config_names
from minillm.commands.trainer_cli import MiniLLMCLI
from minillm.errors import CommandExit
from minillm.tokenizer import Tokenizer


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
    config: str | Path | Mapping[str, Any] = "minillm",
    *,
    callbacks: Iterable[Callback] = (),
    loggers: Iterable[Logger] = (),
    model_class: type[nn.Module] | None = None,
    **overrides: Any,
) -> FitResult:
    """Train a model as `minillm fit` does: with checkpoints, metrics and samples in a run folder.

    It also runs outside the main thread, where Ctrl-C and SIGTERM are not handled.

    Args:
        config: Name of a packaged configuration, path of a YAML file, or the content of one.
        callbacks: Lightning callbacks in addition to those of the configuration.
        loggers: Lightning loggers in addition to those of the run folder.
        model_class: A model class of your own, as for `LanguageModel`.
        overrides: Settings that override the configuration: `name`, `version`, `seed_everything`, `ckpt_path` and
            `init_from` as on the command line; `data`, `model`, `trainer`, `checkpoints`, `samples` and
            `attention_maps` as dictionaries, such as `model={"learning_rate": 1e-3}`.

    Returns:
        Losses, paths and the model.

    Raises:
        ValueError: A setting is wrong, the loss is NaN or infinite, a file cannot be written, or the run to resume is
            complete. The message says which, and what is saved.
        KeyboardInterrupt: Training was stopped by Ctrl-C, after a checkpoint was saved.
        SystemExit: It was stopped by SIGTERM, after a checkpoint was saved.
    """
    configs = [] if isinstance(config, Mapping) else ["--config", str(config)]
    settings = [config, overrides] if isinstance(config, Mapping) else [overrides]
    try:
        flags = [flag for values in settings for flag in _to_flags(values)]
        for flag in flags:
            check_flag(flag.removeprefix("--").partition("=")[0], "fit")
        with _process_state_restored():
            quiet_lightning()
            cli = MiniLLMCLI("fit", [*resolve_config_names(configs), *flags], callbacks, loggers, model_class)
            train(cli)
    except CommandExit as end:
        if end.code in (0, 2):
            raise ValueError(end.message) from end.__cause__
        if end.code == 130:
            raise KeyboardInterrupt(end.message) from None
        end.print_message()
        raise
    return _result(cli)


def _to_flags(settings: Mapping[str, Any]) -> list[str]:
    """Convert settings to flags: `{"model": {"num_layers": 2}}` to `--model.num_layers=2`."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        section = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None
        values |= {name: value} if section is None else {f"{name}.{key}": item for key, item in section.items()}
    return [f"--{name}={_to_text(name, value)}" for name, value in values.items()]


def _to_text(name: str, value: Any) -> str:
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        raise CommandExit(
            2,
            f"{name} must be a plain value, got {value!r}: pass objects as callbacks, loggers or model_class of"
            " minillm.fit, and a strategy or profiler by its name or class_path",
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return cast(Any, value.item())
    raise TypeError


@contextmanager
def _process_state_restored() -> Generator[None]:
    """Restore the warning filters and the number of threads, which training changes, when the context ends."""
    num_threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(num_threads)


def _result(cli: MiniLLMCLI) -> FitResult:
    trainer, checkpoints = cli.trainer, cli.checkpoints
    val_loss = trainer.callback_metrics.get("val_loss")
    run = checkpoints.run
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
