"""What a checkpoint file has to be before anything in it is believed: it may come from anyone."""

import inspect
import math
import pickletools
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer

SHARED_TUPLES = 32  # AdamW's betas are one; each nested level of a hostile one would double the work of hashing it
PARTS = {
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "tokenizer": dict,
    "seed": int,
    "global_step": int,
}
DATA = {"corpus": str, "batch_size": int}
MODEL = "model."  # what the names of the decoder's weights begin with
STORAGES = {f"torch {name}Storage" for name in ("Float", "Double", "Half", "BFloat16", "Byte", "Int", "Long", "Bool")}
NAMED_IN_PICKLES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *STORAGES}


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint file and believe it only as far as it proves itself.

    No code in it is run, no more memory is taken than a few times its size, and what it says of its model is held
    against the weights that it brings.

    Args:
        path: The file.

    Returns:
        The checkpoint, of plain values and tensors.

    Raises:
        ValueError: The file is not a whole checkpoint of ours; the message says why.
        OSError: It cannot be read.
    """
    try:
        content = _checked_copy(path)
        with warnings.catch_warnings(action="ignore"):  # torch's advice is for those who wrote the file
            checkpoint = torch.load(content, map_location="cpu", weights_only=True)
        _check_parts(checkpoint)
        _check_model(checkpoint)
    except OSError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error) if type(error) is ValueError else f"it was cut off or damaged ({type(error).__name__})"
        raise ValueError(f"{path} is not a whole MiniLLM checkpoint: {reason}") from error
    return checkpoint


def _checked_copy(path: Path) -> BytesIO:
    """The records of a zip file that does not grow when it is unpacked, whose pickle asks for nothing but tensors.

    A copy, because torch's reader of zip files may find others in the same file than Python's.
    """
    size = path.stat().st_size
    if size == 0:
        raise ValueError("it is empty")
    if not zipfile.is_zipfile(path):
        raise ValueError("it is something else, or was cut off")
    copy = BytesIO()
    with zipfile.ZipFile(path) as container, zipfile.ZipFile(copy, "w") as checked:
        entries = container.infolist()
        if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
            raise ValueError("it is larger inside than outside")
        if sum(entry.filename.endswith(".pkl") for entry in entries) != 1:
            raise ValueError("it is something else")
        for entry in entries:
            record = container.read(entry)
            if entry.filename.endswith(".pkl"):
                _check_pickle(record)
            checked.writestr(entry.filename, record)
    copy.seek(0)
    return copy


def _check_pickle(record: bytes) -> None:
    """Nothing is named but tensors, and no tuples are nested so that hashing them takes for ever."""
    tuples, again, before = set(), 0, ""
    for opcode, argument, _ in pickletools.genops(record):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") or (
            opcode.name == "GLOBAL" and argument not in NAMED_IN_PICKLES
        ):
            raise ValueError(f"it holds more than plain values ({argument or opcode.name})")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and before.startswith("TUPLE"):
            tuples.add(argument)
        again += opcode.name in ("BINGET", "LONG_BINGET") and argument in tuples
        before = opcode.name
    if again > SHARED_TUPLES:
        raise ValueError("it holds tuples that are shared too often")


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
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"its {name} is no finite number")
    for name, kind in DATA.items():
        if type(checkpoint["datamodule_hyper_parameters"].get(name)) is not kind:
            raise ValueError(f"its {name} is no {kind.__name__}")
    if len(checkpoint["datamodule_hyper_parameters"]) > len(DATA):
        raise ValueError(f"it has more settings of data than {', '.join(DATA)}")
    if type(checkpoint["tokenizer"].get("alphabet")) is not str:
        raise ValueError("it has no alphabet")


def _check_model(checkpoint: dict[str, Any]) -> None:
    """The settings, the alphabet and the weights are those of one model."""
    settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    try:
        if settings["num_layers"] > len(weights):
            raise ValueError(f"{settings['num_layers']} layers, but {len(weights)} weights")
        with torch.device("meta"):  # shapes without memory
            expected = Decoder(**decoder_settings(settings)).state_dict(prefix=MODEL)
        tokenizer = CharTokenizer(checkpoint["tokenizer"]["alphabet"])
        if tokenizer.vocab_size != settings["vocab_size"]:
            raise ValueError(f"{tokenizer.vocab_size} characters for {settings['vocab_size']} tokens")
        if weights.keys() != expected.keys():
            raise ValueError(f"the weights' names differ: {sorted(weights.keys() ^ expected.keys())[0]}")
        for name, weight in weights.items():
            check_tensor(name, weight, expected[name])
    except (KeyError, TypeError, RuntimeError, OverflowError, ValueError) as error:
        raise ValueError(f"its parts do not fit together ({error})") from error


def check_tensor(name: str, tensor: Any, like: Tensor) -> None:
    """Refuse what is not a tensor of the shape and type of another one, with every element in memory and finite.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        raise ValueError(f"{name} is no tensor")
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)} for {like.dtype} {tuple(like.shape)}")
    if not tensor.is_contiguous() or not tensor.isfinite().all():
        raise ValueError(f"{name} does not hold finite numbers")


def decoder_settings(hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    """The part of the settings that the decoder is built from."""
    return {name: hyper_parameters[name] for name in inspect.signature(Decoder).parameters}
