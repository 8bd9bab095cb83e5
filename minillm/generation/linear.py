"""Linear layers in NumPy, with their weights in the memory layout that is read fastest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minillm.generation.numpy_kv_cache import Array

FEW_ROWS = 4  # of a product that takes as long as reading the weight from memory


class Linear:
    """Linear layer without bias.

    Args:
        by_input: Transposed weight (I, O), for many rows.
        by_output: The same weight (O, I), for few rows; None in a model that fits into the processor's cache.
    """

    def __init__(self, by_input: Array, by_output: Array | None) -> None:
        self.by_input = by_input
        self.by_output = by_output

    def __call__(self, x: Array) -> Array:
        """Return x Wᵀ, (R, O), for rows x (R, I)."""
        if self.by_output is None or len(x) > FEW_ROWS:
            return x @ self.by_input
        # a dot product per output reads contiguous memory, up to twice as fast as BLAS's product of matrix and vector
        return np.vecdot(self.by_output[:, None], x).T


def in_one_allocation(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copy float32 arrays into a single memory allocation.

    On Linux, NumPy asks for huge pages if an allocation has at least 4 MB, so that large models cause fewer TLB misses.

    Args:
        arrays: Arrays by their names.

    Returns:
        C-contiguous copies.
    """
    ends = np.cumsum([array.size for array in arrays.values()])
    buffer = np.empty(ends[-1] if arrays else 0, np.float32)
    copies: dict[str, Array] = {}
    for (name, array), end in zip(arrays.items(), ends, strict=True):
        copies[name] = buffer[end - array.size : end].reshape(array.shape)
        copies[name][...] = array
    return copies
