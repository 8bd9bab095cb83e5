"""Read and validate a checkpoint from an untrusted source."""

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from minillm.checkpoint.archive import read_archive
from minillm.checkpoint.format import NewerFormatError, check_format
from minillm.config import ModelConfig
from minillm.tokenizer import Tokenizer, tokenizer_from_state

ENTRIES: dict[str, type] = {
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "tokenizer": dict,
    "seed": int,
    "global_step": int,
}
DATA_SETTINGS: dict[str, tuple[type, ...]] = {  # settings of the data, and their types; more are ignored
    "corpus": (str,),
    "val_corpus": (str, NoneType),
    "batch_size": (int,),
    "sampling": (str,),
    "vocab_size": (int, NoneType),
}
STATE_DICT_PREFIX = "model."  # before the names of the decoder's weights
MAX_CONTEXT_LENGTH = 2**20  # positions; learned ones come with weights, rotary ones could claim any number


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and validated.

    Args:
        path: Its file.
        content: Everything in the file: plain values and tensors.
    """

    path: Path
    content: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.content["global_step"]

    @property
    def seed(self) -> int:
        """The seed of the run, from which its windows follow."""
        return self.content["seed"]

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """The arguments of the LightningModule; a checkpoint of another version can have more or fewer."""
        return self.content["hyper_parameters"]

    @property
    def data(self) -> dict[str, Any]:
        """The known settings of the data; a checkpoint of another version can have fewer."""
        return {
            name: value for name, value in self.content["datamodule_hyper_parameters"].items() if name in DATA_SETTINGS
        }

    @property
    def config(self) -> ModelConfig:
        """The size and the parts of the model; those that were not known when the file was written are the defaults."""
        names = {field.name for field in fields(ModelConfig)}
        return ModelConfig(**{name: value for name, value in self.hyper_parameters.items() if name in names})

    @property
    def weights(self) -> dict[str, Any]:
        """The decoder's weights, by the names that its `state_dict` gives them."""
        return {name.removeprefix(STATE_DICT_PREFIX): weight for name, weight in self.content["state_dict"].items()}

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model was trained with."""
        return tokenizer_from_state(self.content["tokenizer"])


def read_checkpoint(path: Path, as_tensor: Callable[[Any], Any] = np.copy) -> Checkpoint:
    """Read a checkpoint file and check everything that it says of itself.

    No code in it is run, no more memory is taken than a few times its size, and the model that it describes is compared
    with the weights that it contains.

    Args:
        path: The file.
        as_tensor: Makes a tensor of an array that must not be written to; by default it stays an array.

    Raises:
        ValueError: The file is not a complete checkpoint of this project; the message says why.
        OSError: It cannot be read.
    """
    try:
        content: dict[str, Any] = read_archive(path, as_tensor)
        if type(content) is not dict:
            raise ValueError("it is something else")
        check_format(content, path)
        _check_parts(content)
        checkpoint = Checkpoint(path, content)
        _check_model(checkpoint)
    except (OSError, NewerFormatError):
        raise
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error) if type(error) is ValueError else f"it was cut off or damaged ({type(error).__name__})"
        raise ValueError(f"{path} is not a whole MiniLLM checkpoint: {reason}") from error
    return checkpoint


def _check_parts(content: dict[str, Any]) -> None:
    for name, kind in ENTRIES.items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"it has no {name}")
    for name, largest in (("global_step", 2**62), ("seed", 2**32 - 1)):
        if type(content[name]) is not int or not 0 <= content[name] <= largest:
            raise ValueError(f"its {name} is out of range")
    for name, value in content["hyper_parameters"].items():
        if type(name) is not str:
            raise ValueError("a name of its hyper_parameters is not a string")
        if type(value) not in (str, bool, int, float, NoneType) or (type(value) is float and not math.isfinite(value)):
            raise ValueError(f"its {name} is not a string, a bool or a finite number")
    for name, kinds in DATA_SETTINGS.items():
        data = content["datamodule_hyper_parameters"]
        if name in data and type(data[name]) not in kinds:
            raise ValueError(f"its {name} must be of type {kinds[0].__name__}, got {data[name]!r}")


def _check_model(checkpoint: Checkpoint) -> None:
    """Check that the hyper-parameters, the tokenizer and the weights belong to one model."""
    required = [field.name for field in fields(ModelConfig) if field.default is MISSING]
    if missing := [name for name in required if name not in checkpoint.hyper_parameters]:
        raise ValueError(f"its hyper_parameters have no {missing[0]}")
    config, weights = checkpoint.config, checkpoint.content["state_dict"]
    try:
        if config.num_layers > len(weights):
            raise ValueError(f"{config.num_layers} layers, but {len(weights)} weights")
        if config.context_length > MAX_CONTEXT_LENGTH:
            raise ValueError(f"context_length {config.context_length} is more than {MAX_CONTEXT_LENGTH}")
        if checkpoint.tokenizer.vocab_size != config.vocab_size:
            raise ValueError(f"{checkpoint.tokenizer.vocab_size} tokens for the {config.vocab_size} of the model")
        expected = {f"{STATE_DICT_PREFIX}{name}": shape for name, shape in config.weight_shapes().items()}
        if weights.keys() != expected.keys():
            raise ValueError(f"the weights' names differ: {min(weights.keys() ^ expected.keys(), key=str)}")
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
        raise ValueError(f"{name} is not a tensor")
    array = np.asarray(tensor)
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"{name} must be float32 {shape}, got {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} does not hold finite numbers")
