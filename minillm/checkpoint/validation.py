"""Read and validate a checkpoint from an untrusted source."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from minillm.checkpoint.archive import read_archive
from minillm.checkpoint.exported import read_exported
from minillm.checkpoint.format import UnsupportedFileError, check_format
from minillm.config import ModelConfig
from minillm.tokenizer import Tokenizer, tokenizer_from_state

REQUIRED_KEYS: dict[str, type] = {
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "tokenizer": dict,
    "seed": int,
    "global_step": int,
}
DATA_HYPER_PARAMETERS: dict[str, tuple[type, ...]] = {  # allowed types; other keys are ignored
    "corpus": (str,),
    "val_corpus": (str, NoneType),
    "encoding": (str,),
    "text_field": (str,),
    "documents": (str,),
    "batch_size": (int,),
    "sampling": (str,),
    "vocab_size": (int, NoneType),
}
STATE_DICT_PREFIX = "model."  # of the decoder's weights in the LightningModule's state_dict
MAX_CONTEXT_LENGTH = 2**20  # positions; rotary positions have no weights that limit their number


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A validated checkpoint.

    Args:
        path: Path of the checkpoint file, or of the folder of an exported model.
        content: The saved dictionary of plain values and tensors.
    """

    path: Path
    content: dict[str, Any]

    @property
    def step(self) -> int:
        """Number of completed optimizer steps."""
        return self.content["global_step"]

    @property
    def lowest_val_loss(self) -> float | None:
        """Lowest `val_loss` of the run up to this step, in nats per token; None without a validation."""
        loss = self.content.get("callbacks", {}).get("Checkpoints", {}).get("best_val_loss")
        return loss if isinstance(loss, float) and math.isfinite(loss) else None

    @property
    def seed(self) -> int:
        """Random seed of the run, which also determines its training windows."""
        return self.content["seed"]

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Arguments of the LightningModule; a checkpoint of another version can have more or fewer."""
        return self.content["hyper_parameters"]

    @property
    def data(self) -> dict[str, Any]:
        """Known arguments of the data module; a checkpoint of another version can have fewer.

        In formats 1 and 2, `batch_size` is that of one batch of one process; it is converted to that of a step.
        """
        data = self.saved_data
        if self.content.get("format", 1) < 3 and "batch_size" in data:
            data["batch_size"] *= self.num_processes * self.num_batches
        return data

    @property
    def corpus_name(self) -> str | None:
        """Name of the training text, without its folder; None if it is not known."""
        corpus = self.data.get("corpus")
        return Path(corpus).name if isinstance(corpus, str) else None

    @property
    def saved_data(self) -> dict[str, Any]:
        """The same in the format of the file."""
        arguments = self.content["datamodule_hyper_parameters"]
        return {name: value for name, value in arguments.items() if name in DATA_HYPER_PARAMETERS}

    @property
    def num_processes(self) -> int:
        """Number of processes that the run was trained with."""
        return self.content.get("num_processes") or len(self.content.get("random_states", [None]))

    @property
    def num_batches(self) -> int:
        """Number of batches that each process accumulated per step."""
        if "num_batches" in self.content:
            return self.content["num_batches"]
        try:
            progress = self.content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            return max(progress["total"]["processed"] // max(self.step, 1), 1)
        except (KeyError, TypeError):  # saved with weights only, or malformed, which is reported when it is restored
            return 1

    @property
    def text_sha256(self) -> dict[str, str]:
        """SHA-256 of the text of `corpus` and, if there is one, `val_corpus`; empty if an older version saved it."""
        return self.content["datamodule_hyper_parameters"].get("text_sha256", {})

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model, with defaults for fields that an older version did not save."""
        names = {field.name for field in dataclasses.fields(ModelConfig)}
        return ModelConfig(**{name: value for name, value in self.hyper_parameters.items() if name in names})

    @property
    def custom_parts(self) -> dict[str, str]:
        """Parts of a model class of one's own, by name; empty for a `Decoder`."""
        return self.content.get("custom_parts", {})

    @property
    def weights(self) -> dict[str, Any]:
        """The `state_dict` of the decoder."""
        return {name.removeprefix(STATE_DICT_PREFIX): weight for name, weight in self.content["state_dict"].items()}

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model was trained with."""
        return tokenizer_from_state(self.content["tokenizer"])


def read_checkpoint(
    path: Path, as_tensor: Callable[[Any], Any] = np.copy, allow_custom_parts: bool = False
) -> Checkpoint:
    """Read and validate a checkpoint file, or the folder of an exported model.

    No code in the file is executed, memory use is limited to a few times its size, and its model configuration must
    match its weights.

    Args:
        path: Path of the file or folder.
        as_tensor: Converts a read-only array to a tensor; by default, copies it to a writable array.
        allow_custom_parts: Whether the model may have parts that are not those of `Decoder`, whose weights are not
            checked.

    Returns:
        The validated checkpoint.

    Raises:
        UnsupportedFileError: The file was written in the format of a later version, or has custom parts.
        ValueError: The file is not a valid checkpoint; the message gives the reason.
        OSError: The file cannot be read.
    """
    try:
        content: dict[str, Any] = read_exported(path, as_tensor) if path.is_dir() else read_archive(path, as_tensor)
        if type(content) is not dict:
            raise ValueError(f"it must contain a dictionary, got {type(content).__name__}")
        check_format(content, path)
        _check_values(content)
        checkpoint = Checkpoint(path, content)
        if checkpoint.custom_parts and not allow_custom_parts:
            raise UnsupportedFileError(_describe_custom_parts(checkpoint))
        _check_consistency(checkpoint)
    except (OSError, UnsupportedFileError):
        raise
    except Exception as error:  # a damaged file can raise anything in zipfile, pickletools and NumPy
        reason = str(error) if type(error) is ValueError else f"it is truncated or damaged ({type(error).__name__})"
        raise ValueError(f"{path} is not a valid MiniLLM checkpoint: {reason}") from error
    return checkpoint


def _check_values(content: dict[str, Any]) -> None:
    for key, required_type in REQUIRED_KEYS.items():
        if not isinstance(content.get(key), required_type):
            raise ValueError(f"its {key} is missing or not of type {required_type.__name__}")
    for key, minimum, maximum in (
        ("global_step", 0, 2**62),
        ("seed", 0, 2**32 - 1),
        ("num_processes", 1, 2**20),
        ("num_batches", 1, 2**20),
    ):
        if key in content and (type(content[key]) is not int or not minimum <= content[key] <= maximum):
            raise ValueError(f"its {key} must be an integer from {minimum} to {maximum}")
    if type(content.get("random_states", [])) is not list:
        raise ValueError("its random_states are not a list")
    for name, value in content["hyper_parameters"].items():
        if type(name) is not str:
            raise ValueError("a key of its hyper_parameters is not a string")
        if type(value) not in (str, bool, int, float, NoneType) or (type(value) is float and not math.isfinite(value)):
            raise ValueError(f"its {name} is not a string, a bool or a finite number")
    for name, allowed_types in DATA_HYPER_PARAMETERS.items():
        data = content["datamodule_hyper_parameters"]
        if name in data and type(data[name]) not in allowed_types:
            raise ValueError(f"its {name} must be of type {allowed_types[0].__name__}, got {data[name]!r}")
    hashes: dict[Any, Any] = content["datamodule_hyper_parameters"].get("text_sha256", {})
    if type(hashes) is not dict or {type(value) for value in (*hashes, *hashes.values())} - {str}:
        raise ValueError("its text_sha256 is not a dictionary of strings")
    parts: dict[Any, Any] = content.get("custom_parts", {})
    if type(parts) is not dict or {type(value) for value in (*parts, *parts.values())} - {str}:
        raise ValueError("its custom_parts are not a dictionary of strings")


def _describe_custom_parts(checkpoint: Checkpoint) -> str:
    """Name the parts of a model that is not a `Decoder`, and the ways to use it."""
    parts = dict(checkpoint.custom_parts)
    if model_class := parts.pop("model", ""):
        name = model_class.rpartition(".")[2]
        with_parts = f" (with {_list(parts)})" if parts else ""
        return (
            f"{checkpoint.path} was trained with the model class {model_class}{with_parts}, but predict and serve run "
            f"only minillm.model.Decoder: in Python, use minillm.load(..., model_class={name}) and minillm.generate; "
            f"on the command line, python -m minillm fit or validate --model.model_class {model_class}"
        )
    return (
        f"the model of {checkpoint.path} has parts that are not those of minillm.model.Decoder: {_list(parts)}: load it"
        " with load_from_checkpoint of the LanguageModel class that it was trained with"
    )


def _list(parts: dict[str, str]) -> str:
    return ", ".join(f"{name} {path}" for name, path in parts.items())


def _check_consistency(checkpoint: Checkpoint) -> None:
    """Check that the hyperparameters, the tokenizer and the weights describe the same model."""
    required = [field.name for field in dataclasses.fields(ModelConfig) if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in checkpoint.hyper_parameters]:
        raise ValueError(f"its hyper_parameters have no {missing[0]}")
    config, weights = checkpoint.config, checkpoint.content["state_dict"]
    try:
        if config.num_layers > len(weights) and not checkpoint.custom_parts:
            raise ValueError(f"num_layers is {config.num_layers}, but there are {len(weights)} weights")
        if config.context_length > MAX_CONTEXT_LENGTH:
            raise ValueError(f"context_length {config.context_length} is more than {MAX_CONTEXT_LENGTH}")
        if (num_tokens := checkpoint.tokenizer.vocab_size) != config.vocab_size:
            raise ValueError(f"vocab_size is {config.vocab_size}, but the tokenizer has {num_tokens} tokens")
        if checkpoint.custom_parts:
            return
        expected = {f"{STATE_DICT_PREFIX}{name}": shape for name, shape in config.weight_shapes().items()}
        if weights.keys() != expected.keys():
            raise ValueError(f"missing or unexpected weight {min(weights.keys() ^ expected.keys(), key=str)}")
        for name, weight in weights.items():
            check_tensor(name, weight, expected[name])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its hyper_parameters, tokenizer and weights do not match ({error})") from error


def check_tensor(name: str, tensor: Any, shape: tuple[int, ...]) -> None:
    """Check that a value is a float32 tensor or array of the given shape with finite elements.

    Args:
        name: Name of the tensor, for the message.
        tensor: The value to check.
        shape: The expected shape.

    Raises:
        ValueError: It is not such a tensor.
    """
    if not hasattr(tensor, "dtype"):
        raise ValueError(f"{name} is not a tensor")
    array = np.asarray(tensor)
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"{name} must be float32 {shape}, got {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinite values")
