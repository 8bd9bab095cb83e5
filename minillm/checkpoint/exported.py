"""Exported model: a folder with weights in safetensors, settings and tokenizer in JSON, without any pickle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
MODEL_TYPE = "minillm"
SETTINGS = (  # of a checkpoint, that config.json has too
    *("hyper_parameters", "datamodule_hyper_parameters", "seed", "global_step"),
    *("num_processes", "num_batches", "format", "versions", "epoch", "pytorch-lightning_version"),
)


def is_exported(folder: Path) -> bool:
    """Return whether a folder has the files of an exported model."""
    return all((folder / name).is_file() for name in (WEIGHTS, CONFIG, TOKENIZER))


def read_exported(folder: Path, as_tensor: Callable[[NDArray[Any]], Any]) -> dict[str, Any]:
    """Read an exported model as the content of a checkpoint, without validating it.

    Args:
        folder: The folder.
        as_tensor: Converts an array to a tensor.

    Returns:
        The entries of a checkpoint that describe the trained model; those of the training state are missing.

    Raises:
        ValueError: The folder was exported for another program.
    """
    from safetensors.numpy import load  # imported on use: checkpoints of training do not need it

    config = json.loads((folder / CONFIG).read_text("utf-8"))
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"it was exported for another program, with model_type {config.get('model_type')!r}: pass the checkpoint, "
            "or the folder of minillm export --format safetensors"
        )
    weights = {f"model.{name}": as_tensor(weight) for name, weight in load((folder / WEIGHTS).read_bytes()).items()}
    settings = {name: config[name] for name in SETTINGS if name in config}
    return {**settings, "state_dict": weights, "tokenizer": json.loads((folder / TOKENIZER).read_text("utf-8"))}


def exported_files(content: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of an exported model by name, from the content of a checkpoint with NumPy weights."""
    from safetensors.numpy import save

    config = {"model_type": MODEL_TYPE, **{name: content[name] for name in SETTINGS if name in content}}
    weights = {name.removeprefix("model."): weight for name, weight in content["state_dict"].items()}
    return {
        WEIGHTS: save(weights),
        CONFIG: json.dumps(config, indent=2).encode(),
        TOKENIZER: json.dumps(content["tokenizer"]).encode(),
    }
