"""Flags saved in a checkpoint, and those among them that cannot be changed."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from minillm.checkpoint.validation import Checkpoint
from minillm.config import ModelConfig
from minillm.errors import fail

# fields of ModelConfig that come from the data, or that trained weights do not depend on
CHANGEABLE_FIELDS = ("vocab_size", "context_length", "dropout", "zero_init")
ARCHITECTURE_FLAGS = [f"model.{field.name}" for field in fields(ModelConfig) if field.name not in CHANGEABLE_FIELDS]
FIXED_BY_WEIGHTS = (*ARCHITECTURE_FLAGS, "data.vocab_size")
FIXED_BY_RUN = (*FIXED_BY_WEIGHTS, "data.context_length", "model.optimizer", "seed_everything")


def check_compatible(settings: Any, saved: dict[str, Any], names: Iterable[str], path: Path) -> None:
    """Exit with an error if a flag contradicts the weights, the tokenizer or the run of a checkpoint.

    Args:
        settings: All flags.
        saved: The flags of the checkpoint; a flag that is missing here is not compared.
        names: The flags that must be equal.
        path: The path of the checkpoint, for the error message.
    """
    for name in names:
        if name in saved and settings[name] != saved[name]:
            value = "character tokens" if name == "data.vocab_size" and saved[name] is None else saved[name]
            fail(f"--{name} {settings[name]} does not match {path}, trained with {value}: leave it out")
    if settings.data.tokenizer is not None:
        fail(f"--data.tokenizer is not allowed, because {path} contains its tokenizer: leave it out")


def saved_flags(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the flags of the model, the data and the seed that a checkpoint was trained with.

    Returns:
        Values by flag name; flags saved by another version may not exist in this one.
    """
    model = {**asdict(checkpoint.config), **checkpoint.hyper_parameters}
    saved = {f"model.{name}": value for name, value in model.items()}
    saved["data.context_length"] = saved.pop("model.context_length")
    del saved["model.vocab_size"]  # given by the tokenizer
    saved |= {f"data.{name}": value for name, value in checkpoint.data.items()}
    return {**saved, "seed_everything": checkpoint.seed}


def shape_flags(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the flags that determine the weight shapes of a checkpoint's model."""
    saved = saved_flags(checkpoint)
    return {name: saved[name] for name in (*FIXED_BY_WEIGHTS, "data.context_length") if name in saved}
