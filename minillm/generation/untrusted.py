"""What a checkpoint has to prove before anything in it is believed: it may come from anyone."""

import math
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from minillm.generation.archive import read_archive
from minillm.generation.numpy_decoder import weight_shapes
from minillm.tokenizer import restored

PARTS = {
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "tokenizer": dict,
    "seed": int,
    "global_step": int,
}
DATA = {
    "corpus": (str,),
    "val_corpus": (str, NoneType),
    "batch_size": (int,),
    "sampling": (str,),
    "vocab_size": (int, NoneType),
}
SIZES = ("vocab_size", "context_length", "embed_dim", "num_layers", "num_heads")
CHOICES = {
    "position": ("learned", "rotary"),
    "norm": ("layer", "rms"),
    "activation": ("relu", "squared_relu", "swiglu"),
    "query_key_norm": (False, True),
    "token_shift": (False, True),
}
MODEL = "model."  # what the names of the decoder's weights begin with


def read(path: Path, as_tensor: Callable[[Any], Any] = np.copy) -> dict[str, Any]:
    """Read a checkpoint file and believe it only as far as it proves itself.

    No code in it is run, no more memory is taken than a few times its size, and what it says of its model is held
    against the weights that it brings.

    Args:
        path: The file.
        as_tensor: Makes a tensor of an array that must not be written to; by default it stays an array.

    Returns:
        The checkpoint, of plain values and tensors.

    Raises:
        ValueError: The file is not a whole checkpoint of ours; the message says why.
        OSError: It cannot be read.
    """
    try:
        checkpoint = read_archive(path, as_tensor)
        _check_parts(checkpoint)
        _check_model(checkpoint)
    except OSError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error) if type(error) is ValueError else f"it was cut off or damaged ({type(error).__name__})"
        raise ValueError(f"{path} is not a whole MiniLLM checkpoint: {reason}") from error
    return checkpoint


def _check_parts(checkpoint: Any) -> None:
    if not isinstance(checkpoint, dict):
        raise ValueError("it is something else")
    for name, kind in PARTS.items():
        if not isinstance(checkpoint.get(name), kind):
            raise ValueError(f"it has no {name}")
    for name, largest in (("global_step", 2**62), ("seed", 2**32 - 1)):
        if type(checkpoint[name]) is not int or not 0 <= checkpoint[name] <= largest:
            raise ValueError(f"its {name} is out of range")
    for name, value in checkpoint["hyper_parameters"].items():
        if type(name) is not str or not name.isidentifier():
            raise ValueError("the names of its settings are none")
        if type(value) not in (str, bool) and (type(value) not in (int, float) or not math.isfinite(value)):
            raise ValueError(f"its {name} is no finite number, nor a word")
    for part, names in (("hyper_parameters", (*SIZES, *CHOICES)), ("datamodule_hyper_parameters", DATA)):
        for name in names:
            if checkpoint[part] and name not in checkpoint[part]:
                raise ValueError(f"another version of MiniLLM wrote it: no {name}")
    for name, kinds in DATA.items():
        if type(checkpoint["datamodule_hyper_parameters"].get(name)) not in kinds:
            raise ValueError(f"its {name} is no {kinds[0].__name__}")
    if len(checkpoint["datamodule_hyper_parameters"]) > len(DATA):
        raise ValueError(f"it has more settings of data than {', '.join(DATA)}")


def _check_model(checkpoint: dict[str, Any]) -> None:
    """The settings, the tokenizer and the weights are those of one model."""
    settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    try:
        for name in SIZES:
            if type(settings[name]) is not int or settings[name] < 1:
                raise ValueError(f"its {name} is {settings[name]}")
        for name, choices in CHOICES.items():
            if settings[name] not in choices or type(settings[name]) is not type(choices[0]):
                raise ValueError(f"its {name} is {settings[name]}")
        if settings["embed_dim"] % settings["num_heads"] or not 0 <= settings["dropout"] < 1:
            raise ValueError(f"{settings['num_heads']} heads, dropout {settings['dropout']}")
        if settings["position"] == "rotary" and settings["embed_dim"] // settings["num_heads"] % 2:
            raise ValueError("its channels come in no pairs")
        if settings["num_layers"] > len(weights):
            raise ValueError(f"{settings['num_layers']} layers, but {len(weights)} weights")
        vocab_size = restored(checkpoint["tokenizer"]).vocab_size
        if vocab_size != settings["vocab_size"]:
            raise ValueError(f"{vocab_size} tokens for the {settings['vocab_size']} of the model")
        expected = {f"{MODEL}{name}": shape for name, shape in weight_shapes(settings).items()}
        if weights.keys() != expected.keys():
            raise ValueError(f"the weights' names differ: {sorted(weights.keys() ^ expected.keys())[0]}")
        for name, weight in weights.items():
            check_tensor(name, weight, expected[name])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its parts do not fit together ({error})") from error


def check_tensor(name: str, tensor: Any, shape: tuple[int, ...]) -> None:
    """Refuse what is not a float32 array or tensor of that shape, of finite numbers.

    Raises:
        ValueError: It is not.
    """
    if not hasattr(tensor, "dtype"):
        raise ValueError(f"{name} is no tensor")
    array = np.asarray(tensor)
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"{name} is {array.dtype} {array.shape} for float32 {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} does not hold finite numbers")
