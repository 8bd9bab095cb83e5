"""The flags that a checkpoint brings with it, and those that it leaves no choice in."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from minillm.checkpoint.validation import Checkpoint
from minillm.config import ModelConfig
from minillm.errors import fail

FREE = ("vocab_size", "context_length", "dropout", "zero_init")  # of the data, or without a trace in trained weights
SHAPES = [f"model.{field.name}" for field in fields(ModelConfig) if field.name not in FREE]
FIXED_BY_WEIGHTS = (*SHAPES, "data.vocab_size")
FIXED_BY_RUN = (*FIXED_BY_WEIGHTS, "data.context_length", "model.optimizer", "seed_everything")


def check_fits(settings: Any, saved: dict[str, Any], names: Iterable[str], path: Path) -> None:
    """Refuse flags that differ from a checkpoint's where its weights, tokenizer or run leave no choice.

    Args:
        settings: All flags.
        saved: Those of the checkpoint; one that it does not have is not compared.
        names: The flags that must be equal.
        path: The checkpoint's, for the message.
    """
    for name in names:
        if name in saved and settings[name] != saved[name]:
            has = "characters as tokens" if name == "data.vocab_size" and saved[name] is None else saved[name]
            fail(f"--{name} {settings[name]} does not fit {path}, trained with {has}: leave it out")
    if settings.data.tokenizer is not None:
        fail(f"--data.tokenizer is in {path} already: leave it out")


def saved_flags(checkpoint: Checkpoint) -> dict[str, Any]:
    """The flags that a checkpoint was trained with, of the model, the data and the seed.

    Returns:
        Values by the names of their flags; those of another version can be unknown here.
    """
    model = {**asdict(checkpoint.config), **checkpoint.hyper_parameters}
    saved = {f"model.{name}": value for name, value in model.items()}
    saved["data.context_length"] = saved.pop("model.context_length")
    del saved["model.vocab_size"]  # comes with the tokenizer
    saved |= {f"data.{name}": value for name, value in checkpoint.data.items()}
    return {**saved, "seed_everything": checkpoint.seed}


def shape_flags(checkpoint: Checkpoint) -> dict[str, Any]:
    """The flags that give a model the shape of a checkpoint's."""
    saved = saved_flags(checkpoint)
    return {name: saved[name] for name in (*FIXED_BY_WEIGHTS, "data.context_length") if name in saved}
