"""Token ids in a file, of which memory holds what is looked at."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGE = 2**26  # bytes: of a file this large, what was read is given back at once


class TokenFile:
    """A part of a file of token ids, to be indexed like a tensor.

    Args:
        path: The file; not empty.
        dtype: Of its numbers.
        start, stop: Where the part begins and ends, in tokens.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], start: int, stop: int) -> None:
        self._arguments = (path, dtype, start, stop)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ids = np.frombuffer(self._map, dtype)[start:stop]
        self._release = len(self._map) >= LARGE and hasattr(self._map, "madvise")

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, positions: Tensor | slice) -> Tensor:
        """The ids at these positions, as int64."""
        where = positions if isinstance(positions, slice) else positions.numpy()
        ids = torch.from_numpy(self._ids[where].astype(np.int64))
        if self._release:  # or random windows would fill the memory with the whole file
            self._map.madvise(mmap.MADV_DONTNEED)
        return ids

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenFile, self._arguments
