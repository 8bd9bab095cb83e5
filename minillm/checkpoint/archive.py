"""Restricted unpickler for plain values and tensors: read the files of `torch.save` without torch.

The files are untrusted, so `pickle` is not used: only the few opcodes that plain values need are implemented. No code
in a file is executed, and memory use is limited to a few times the file's size.
"""

import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STORAGE_DTYPES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch ByteStorage": "<u1",
    "torch IntStorage": "<i4",
    "torch LongStorage": "<i8",
    "torch BoolStorage": "?",
}
ORDERED_DICT, REBUILD_TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
CONSTANT_OPCODES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
MAX_DIMENSIONS = 8


def read_archive(path: Path, as_tensor: Callable[[NDArray[Any]], Any] = np.copy) -> Any:
    """Read a file that `torch.save` wrote.

    Args:
        path: Path of the file.
        as_tensor: Converts a read-only array to a tensor; by default, copies it to a writable array.

    Returns:
        The saved object.

    Raises:
        ValueError: The file contains more than plain values and tensors, or was not written by `torch.save`. A
            damaged file can raise other exceptions.
        OSError: The file cannot be read.
    """
    entries = _read_zip_entries(path)
    (name,) = (name for name in entries if name.endswith(".pkl"))
    folder = name.rpartition("/")[0]
    if entries.get(f"{folder}/byteorder", b"little") != b"little":
        raise ValueError("its byte order is not little-endian, the only one supported")
    storages = {key.removeprefix(f"{folder}/data/"): entries[key] for key in entries}
    return _RestrictedUnpickler(storages, as_tensor, bytes_left=2 * path.stat().st_size).load(entries[name])


@dataclass(frozen=True)
class _Global:
    """A global that a pickle refers to: ORDERED_DICT, REBUILD_TENSOR or a key of STORAGE_DTYPES."""

    name: str


@dataclass
class _RestrictedUnpickler:
    """Stack machine for the pickle opcodes of plain values and tensors."""

    storages: dict[str, bytes]
    as_tensor: Callable[[NDArray[Any]], Any]
    bytes_left: int  # memory budget of the tensors: they can share a storage, but each is copied
    stack: list[Any] = field(default_factory=list[Any])
    marks: list[int] = field(default_factory=list[int])  # stack sizes at MARK opcodes
    memo: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def load(self, pickled: bytes) -> Any:
        """Execute the opcodes of a pickle and return the saved object."""
        for opcode, argument, _ in pickletools.genops(pickled):
            self._execute(opcode.name, argument)
        (value,) = self.stack
        return value

    def _execute(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(CONSTANT_OPCODES[name])
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if name == "EMPTY_LIST" else {})
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop_from(len(stack) - int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(self._pop_from(self.marks.pop())))
            case "APPEND" | "APPENDS":
                values = self._pop_from(self.marks.pop() if name == "APPENDS" else len(stack) - 1)
                stack[-1].extend(values)
            case "SETITEM" | "SETITEMS":
                values = self._pop_from(self.marks.pop() if name == "SETITEMS" else len(stack) - 2)
                self._set_items(stack[-1], values[::2], values[1::2])
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL" if argument in (ORDERED_DICT, REBUILD_TENSOR, *STORAGE_DTYPES):
                stack.append(_Global(argument))
            case "BINPERSID":
                _, storage_type, key, *_ = stack.pop()
                stack.append(np.frombuffer(self.storages[key], STORAGE_DTYPES[storage_type.name]))
            case "REDUCE":
                function, arguments = self._pop_from(len(stack) - 2)
                stack.append(self._reduce(function, arguments))
            case "BUILD" if type(stack[-2]) is dict:
                stack.pop()  # ignore the attributes of an OrderedDict
            case _:
                raise ValueError(f"it contains more than plain values and tensors ({argument or name})")

    def _pop_from(self, start: int) -> list[Any]:
        values = self.stack[start:]
        del self.stack[start:]
        return values

    @staticmethod
    def _set_items(mapping: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
        if any(type(key) not in (str, int) for key in keys):  # hashing nested tuples can take exponential time
            raise ValueError("a dictionary key is neither a string nor an integer")
        mapping.update(zip(keys, values, strict=True))

    def _reduce(self, function: _Global, arguments: tuple[Any, ...]) -> Any:
        if function.name == ORDERED_DICT and not arguments:
            return {}
        if function.name != REBUILD_TENSOR:
            raise ValueError(f"it contains more than plain values and tensors ({function.name})")
        storage, offset, shape, strides, *_ = arguments
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
        contiguous_strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        for size, stride, expected in zip(shape, strides, contiguous_strides, strict=True):
            if size > 1 and stride != expected:
                raise ValueError("a tensor is not contiguous")
        tensor = storage[offset : offset + math.prod(shape)].reshape(shape)
        self.bytes_left -= tensor.nbytes
        if self.bytes_left < 0:
            raise ValueError("its tensors need more memory than twice the size of the file")
        return self.as_tensor(tensor)


def _read_zip_entries(path: Path) -> dict[str, bytes]:
    """Return the contents of a zip archive by name; refuse a compressed archive, which could expand to any size."""
    size = path.stat().st_size
    if size == 0:
        raise ValueError("it is empty")
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a zip archive, or it is truncated")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
            raise ValueError("its content is compressed or larger than the file")
        if sum(entry.filename.endswith(".pkl") for entry in entries) != 1:
            raise ValueError("it does not contain exactly one pickle")
        return {entry.filename: archive.read(entry) for entry in entries}
