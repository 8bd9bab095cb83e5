"""Flags saved in a checkpoint, and those among them that cannot be changed."""

import warnings
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from minillm.checkpoint.validation import Checkpoint
from minillm.config import ModelConfig
from minillm.data.text_files import TextFormat
from minillm.errors import fail

# fields of ModelConfig that come from the data, or that trained weights do not depend on
CHANGEABLE_FIELDS = ("vocab_size", "context_length", "dropout", "zero_init")
ARCHITECTURE_FLAGS = [f"model.{field.name}" for field in fields(ModelConfig) if field.name not in CHANGEABLE_FIELDS]
FIXED_BY_WEIGHTS = (*ARCHITECTURE_FLAGS, "data.vocab_size")
TEXT_FORMAT = [f"data.{field.name}" for field in fields(TextFormat)]
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


def check_text(checkpoint: Checkpoint, current: dict[str, str], data: Any, resumes: bool) -> None:
    """Compare the text of a run with that of its checkpoint; warn if an evaluation finds that it has changed.

    Args:
        checkpoint: The checkpoint; one of an older version does not record its text.
        current: SHA-256 of the text of `corpus` and, if there is one, `val_corpus`.
        data: The data settings.
        resumes: Whether the run resumes: it trains on one text, and its val_loss is that of one.

    Raises:
        ValueError: A run that resumes has another text.
    """
    saved = checkpoint.text_sha256
    for name in ("corpus", "val_corpus") if saved else ():
        if current.get(name) == saved.get(name):
            continue
        if resumes:
            raise ValueError(
                f"the text of data.{name} {data[name]!r} is not the one that {checkpoint.path} was trained with:"
                f" restore it, or train on the new text with --init_from {checkpoint.path}"
            )
        if data[name] == checkpoint.data.get(name):
            message = f"the text of data.{name} {data[name]!r} has changed since {checkpoint.path} was trained"
            warnings.warn(message, stacklevel=2)


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
