"""Reads the files that `torch.save` writes, as far as plain values and tensors go, without torch.

A file may come from anyone: no code in it is run, and no more memory is taken than a few times its size.
"""

import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARED_TUPLES = 32  # AdamW's betas are one; each nested level of a hostile one would double the work of hashing it
STORAGES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Byte": "<u1", "Int": "<i4", "Long": "<i8", "Bool": "?"}
NAMED_IN_PICKLES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in STORAGES),
}


def read_archive(path: Path, as_tensor: Callable[[NDArray[Any]], Any] = np.copy) -> Any:
    """Read a file.

    Args:
        path: The file.
        as_tensor: Turns the values of a tensor, an array that must not be written to, into what is wanted.

    Returns:
        What was saved.

    Raises:
        ValueError: It holds more than plain values and tensors, or is something else. Other errors: it is damaged.
        OSError: It cannot be read.
    """
    records = _records(path)
    (name,) = (name for name in records if name.endswith(".pkl"))
    _check_pickle(records[name])
    folder = name.rpartition("/")[0]
    if records.get(f"{folder}/byteorder", b"little") != b"little":
        raise ValueError("it comes from a machine with another order of bytes")
    unpickler = _Unpickler(records[name], {key: records[key] for key in records if "/data/" in key}, folder)
    unpickler.as_tensor = as_tensor
    return unpickler.load()


class _Unpickler(pickle.Unpickler):
    """Builds nothing but what is listed here."""

    as_tensor: Callable[[NDArray[Any]], Any]

    def __init__(self, pickled: bytes, storages: dict[str, bytes], folder: str) -> None:
        super().__init__(BytesIO(pickled))
        self.storages = storages
        self.folder = folder

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What a name in the pickle stands for."""
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        return STORAGES[global_name.removesuffix("Storage")]

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        """The values that a tensor looks at."""
        _, dtype, key, *_ = pid
        return np.frombuffer(self.storages[f"{self.folder}/data/{key}"], dtype)

    def _tensor(
        self, values: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> Any:
        contiguous = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        if any(
            size > 1 and stride != expected for size, stride, expected in zip(shape, strides, contiguous, strict=True)
        ):
            raise ValueError("it holds a tensor whose values do not lie one after the other")
        return self.as_tensor(values[offset : offset + math.prod(shape)].reshape(shape))


def _records(path: Path) -> dict[str, bytes]:
    """The files in a zip file that does not grow when it is unpacked."""
    size = path.stat().st_size
    if size == 0:
        raise ValueError("it is empty")
    if not zipfile.is_zipfile(path):
        raise ValueError("it is something else, or was cut off")
    with zipfile.ZipFile(path) as container:
        entries = container.infolist()
        if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
            raise ValueError("it is larger inside than outside")
        if sum(entry.filename.endswith(".pkl") for entry in entries) != 1:
            raise ValueError("it is something else")
        return {entry.filename: container.read(entry) for entry in entries}


def _check_pickle(record: bytes) -> None:
    """Nothing is named but tensors; no tuples are nested so that hashing them takes for ever; no memo is huge."""
    tuples, again, before = set(), 0, ""
    for opcode, argument, _ in pickletools.genops(record):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") or (
            opcode.name == "GLOBAL" and argument not in NAMED_IN_PICKLES
        ):
            raise ValueError(f"it holds more than plain values ({argument or opcode.name})")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if not 0 <= argument < len(record):  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
                raise ValueError("it would take more memory than its size")
            if before.startswith("TUPLE"):
                tuples.add(argument)
        again += opcode.name in ("GET", "BINGET", "LONG_BINGET") and argument in tuples
        before = opcode.name
    if again > SHARED_TUPLES:
        raise ValueError("it holds tuples that are shared too often")
