"""Memory-mapped token ids."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

RELEASE_THRESHOLD_BYTES = 2**26  # size of a file from which pages are released after every read


class TokenFile:
    """A memory-mapped slice of a file of token ids, indexed like a tensor.

    Args:
        path: The file, which must not be empty.
        dtype: Integer type of the ids in the file.
        start, stop: Bounds of the slice, in tokens.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], start: int, stop: int) -> None:
        self._arguments = (path, dtype, start, stop)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ids = np.frombuffer(self._map, dtype)[start:stop]
        self._release = len(self._map) >= RELEASE_THRESHOLD_BYTES and hasattr(self._map, "madvise")

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, positions: Tensor | slice) -> Tensor:
        """Return the ids at these positions, as int64."""
        index = positions if isinstance(positions, slice) else positions.numpy()
        ids = torch.from_numpy(self._ids[index].astype(np.int64))
        if self._release:  # random windows would otherwise bring the whole file into memory
            self._map.madvise(mmap.MADV_DONTNEED)
        return ids

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenFile, self._arguments
