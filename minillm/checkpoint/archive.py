"""Reads the files that `torch.save` writes, as far as plain values and tensors go, without torch.

A file may come from anyone. So its pickle is not given to pickle: the few instructions that plain values need are
carried out here, and no others. No code in a file is run, and no more memory is taken than a few times its size.
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

STORAGES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Byte": "<u1", "Int": "<i4", "Long": "<i8", "Bool": "?"}
DTYPES = {f"torch {name}Storage": dtype for name, dtype in STORAGES.items()}
DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
MAX_DIMENSIONS = 8


def read_archive(path: Path, as_tensor: Callable[[NDArray[Any]], Any] = np.copy) -> Any:
    """Read a file.

    Args:
        path: The file.
        as_tensor: Makes a tensor of an array that must not be written to; by default it stays an array.

    Returns:
        What was saved.

    Raises:
        ValueError: It holds more than plain values and tensors, or is something else. Other errors: it is damaged.
        OSError: It cannot be read.
    """
    records = _records(path)
    (name,) = (name for name in records if name.endswith(".pkl"))
    folder = name.rpartition("/")[0]
    if records.get(f"{folder}/byteorder", b"little") != b"little":
        raise ValueError("it comes from a machine with another order of bytes")
    storages = {key.removeprefix(f"{folder}/data/"): records[key] for key in records}
    return _RestrictedUnpickler(storages, as_tensor, bytes_left=2 * path.stat().st_size).load(records[name])


@dataclass(frozen=True)
class _Global:
    """What a pickle names: one of DICT, TENSOR and DTYPES."""

    text: str


@dataclass
class _RestrictedUnpickler:
    """A machine for the instructions that plain values are made with: a stack, marks in it, and a memo."""

    storages: dict[str, bytes]
    as_tensor: Callable[[NDArray[Any]], Any]
    bytes_left: int  # for tensors, which may share what they look at
    stack: list[Any] = field(default_factory=list[Any])
    marks: list[int] = field(default_factory=list[int])
    memo: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def load(self, pickled: bytes) -> Any:
        """Carry out a pickle's instructions; the last thing on the stack is what was saved."""
        for opcode, argument, _ in pickletools.genops(pickled):
            self._do(opcode.name, argument)
        (value,) = self.stack
        return value

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(CONSTANTS[name])
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if name == "EMPTY_LIST" else {})
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._popped(len(stack) - int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(self._popped(self.marks.pop())))
            case "APPEND" | "APPENDS":
                values = self._popped(self.marks.pop() if name == "APPENDS" else len(stack) - 1)
                stack[-1].extend(values)
            case "SETITEM" | "SETITEMS":
                values = self._popped(self.marks.pop() if name == "SETITEMS" else len(stack) - 2)
                self._fill(stack[-1], values[::2], values[1::2])
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL" if argument in (DICT, TENSOR, *DTYPES):
                stack.append(_Global(argument))
            case "BINPERSID":
                _, dtype, key, *_ = stack.pop()
                stack.append(np.frombuffer(self.storages[key], DTYPES[dtype.text]))
            case "REDUCE":
                function, arguments = self._popped(len(stack) - 2)
                stack.append(self._called(function, arguments))
            case "BUILD" if type(stack[-2]) is dict:
                stack.pop()  # what an OrderedDict has besides its items is of no use here
            case _:
                raise ValueError(f"it holds more than plain values ({argument or name})")

    def _popped(self, begin: int) -> list[Any]:
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    @staticmethod
    def _fill(mapping: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
        if any(type(key) not in (str, int) for key in keys):  # a nest of tuples can take for ever to hash
            raise ValueError("its names are neither words nor numbers")
        mapping.update(zip(keys, values, strict=True))

    def _called(self, function: _Global, arguments: tuple[Any, ...]) -> Any:
        if function.text == DICT and not arguments:
            return {}
        if function.text != TENSOR:
            raise ValueError(f"it holds more than plain values ({function.text})")
        values, offset, shape, strides, *_ = arguments
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"it holds a tensor of {len(shape)} axes")
        contiguous = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        for size, stride, expected in zip(shape, strides, contiguous, strict=True):
            if size > 1 and stride != expected:
                raise ValueError("it holds a tensor whose values do not lie one after the other")
        tensor = values[offset : offset + math.prod(shape)].reshape(shape)
        self.bytes_left -= tensor.nbytes
        if self.bytes_left < 0:
            raise ValueError("it is larger inside than outside")
        return self.as_tensor(tensor)


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
