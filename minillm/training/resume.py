"""From a checkpoint to the run that goes on from it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from minillm.errors import fail
from minillm.generation.checkpoint import newest_in
from minillm.generation.untrusted import CHOICES, SIZES, check_tensor, read

SHAPES = [f"model.{name}" for name in (*SIZES, *CHOICES) if name not in ("vocab_size", "context_length")]
UNCHANGED = ("data.context_length", "data.vocab_size", *SHAPES, "model.optimizer", "seed_everything")


def check_fits(settings: Any, saved: dict[str, Any], names: Iterable[str], path: Path) -> None:
    """Refuse flags that differ from those that a checkpoint's weights and tokenizer leave no choice in.

    Args:
        settings: All flags.
        saved: Those of the checkpoint.
        names: Which of them have to be the same.
        path: The checkpoint's, for the message.
    """
    for name in names:
        if settings[name] != saved[name]:
            has = "characters as tokens" if name == "data.vocab_size" and saved[name] is None else saved[name]
            fail(f"--{name} {settings[name]} does not fit {path}, trained with {has}: leave it out")
    if settings.data.tokenizer is not None:
        fail(f"--data.tokenizer is in {path} already: leave it out")


def saved_settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The flags that a checkpoint was trained with, of the model, the data and the seed.

    Args:
        checkpoint: As `read` returns it.

    Returns:
        Values by the names of their flags.
    """
    saved = {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items()}
    saved["data.context_length"] = saved.pop("model.context_length")
    del saved["model.vocab_size"]  # comes with the tokenizer
    saved |= {f"data.{name}": value for name, value in checkpoint["datamodule_hyper_parameters"].items()}
    return {**saved, "seed_everything": checkpoint["seed"]}


def run_to_continue(path: Path, checkpoint: dict[str, Any]) -> Path | None:
    """The run folder that training goes on in.

    Args:
        path: Where the checkpoint lies.
        checkpoint: As `read` returns it.

    Returns:
        The folder; None if the checkpoint lies in none, or if that run has gone on since: a new one begins there then,
        so that nothing of the old one is lost.
    """
    run = path.absolute().parent.parent
    if path.absolute().parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        return None
    newest = newest_in(path.parent)
    return run if checkpoint["global_step"] >= read(newest)["global_step"] else None


def is_elsewhere(logger: Any, run: Path, default: dict[str, Any]) -> bool:
    """Whether the logger is asked to write to another place than a run's folder.

    Args:
        logger: The configuration of TensorBoardLogger, or anything else that somebody gave instead.
        run: The folder.
        default: The logger's arguments where none are given.
    """
    if not isinstance(logger, Namespace) or not logger.class_path.endswith("TensorBoardLogger"):
        return True
    here = {"save_dir": run.parent.parent, "name": run.parent.name, "version": run.name}
    for name, value in here.items():
        given = logger.init_args.get(name)
        if name == "version" and isinstance(given, int):
            given = f"version_{given}"
        same = Path(given or "").resolve() == value if name == "save_dir" else given == value
        if given not in (None, default.get(name)) and not same:
            return True
    return logger.init_args.get("sub_dir") is not None


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """How often training had seen its share of windows that make an epoch."""
    loops = checkpoint["loops"]["fit_loop"]
    return loops["epoch_progress"]["current"]["ready"] - (not loops["epoch_loop.batch_progress"]["is_last_batch"])


def changes(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """The settings that differ between two configurations, a line each."""
    found = []
    for name in before | now:
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += changes(one, other, f"{where}{name}.")
        elif one != other:
            found.append(f"--{where}{name} {one} -> {other}")
    return found


def check_training_state(checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Hold what training goes on from against the weights that it is for.

    Args:
        checkpoint: As `read` returns it.
        optimizer: The new one.

    Raises:
        ValueError: It is that of another optimizer, model or step.
    """
    try:
        (state,) = checkpoint["optimizer_states"]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            for name, value in state["state"][number].items():
                check_tensor(f"{name} of weight {number}", value, () if name == "step" else tuple(weight.shape))
        loops = checkpoint["loops"]["fit_loop"]
        optimization = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        batches = loops["epoch_loop.batch_progress"]["total"]["processed"]
        if optimization["step"]["total"]["completed"] != checkpoint["global_step"] or type(batches) is not int:
            raise ValueError("its loops have done another number of steps")
        if not checkpoint["global_step"] <= batches < 2**62 or not checkpoint["random_states"]:
            raise ValueError("its windows or random states are none that training can go on from")
        float(checkpoint["callbacks"]["Checkpoints"]["best_val_loss"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the state of the training does not fit the weights ({error!r})") from error
