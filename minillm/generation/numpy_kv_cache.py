"""Key/value caches for incremental decoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class NumpyKVCache:
    """KV cache: the keys and values of past positions, for sequences of the same length.

    The caller owns the cache; the decoder is stateless.

    Args:
        num_layers: Number of layers, L.
        batch_size: Number of sequences, B.
        num_heads: Number of heads, H.
        context_length: Maximum number of positions.
        head_dim: Channels per head, D.
    """

    def __init__(self, num_layers: int, batch_size: int, num_heads: int, context_length: int, head_dim: int) -> None:
        self.keys_values: Array = np.zeros((num_layers, 2, batch_size, num_heads, context_length, head_dim), np.float32)
        # the inputs of the two token shifts of each layer at the newest position
        self.shift_state: Array = np.zeros((num_layers, 2, batch_size, num_heads * head_dim), np.float32)
        self.length = 0

    def repeat(self, batch_size: int) -> NumpyKVCache:
        """Copy the cache of a single sequence to `batch_size` sequences, which share this prefix."""
        num_layers, _, _, *shape = self.keys_values.shape
        cache = NumpyKVCache(num_layers, batch_size, *shape)
        cache.keys_values[..., : self.length, :] = self.keys_values[..., : self.length, :]
        cache.shift_state[:] = self.shift_state
        cache.length = self.length
        return cache

    def positions(self, num_new: int) -> slice | Array:
        """Return the next `num_new` positions: one slice for all sequences, or an array (B, num_new)."""
        return slice(self.length, self.length + num_new)

    def mask(self, num_new: int) -> Array | None:
        """Return the additive causal mask (T, S) of T new positions: -inf for future keys, else 0; None if T = 1."""
        if num_new == 1:  # the newest position attends to all
            return None
        return np.triu(np.full((num_new, self.length + num_new), -np.inf, np.float32), 1 + self.length)

    def extend(self, layer: int, keys_values: Array) -> Array:
        """Add the keys and values of T new positions to a layer.

        Args:
            layer: Index of the layer.
            keys_values: (2, B, H, T, D) of the new positions.

        Returns:
            (2, B, H, S, D) of all positions; the cache counts the new ones when `advance` is called.
        """
        end = self.length + keys_values.shape[3]
        self.keys_values[layer, :, :, :, self.length : end] = keys_values
        return self.keys_values[layer, :, :, :, :end]

    def advance(self, num_new: int) -> None:
        """Count the new positions, after `extend` has been called for every layer."""
        self.length += num_new


class NumpyRaggedKVCache(NumpyKVCache):
    """KV cache for sequences of different lengths, which can be added and removed; each decodes one token per step.

    Args:
        template: The cache of a single sequence, from which the sizes are taken.
        capacity: Maximum number of sequences.
    """

    def __init__(self, template: NumpyKVCache, capacity: int) -> None:
        num_layers, _, _, *shape = template.keys_values.shape
        super().__init__(num_layers, capacity, *shape)
        self._all_keys_values, self._all_shift_state = self.keys_values, self.shift_state
        self.lengths: Array = np.empty(0, np.intp)

    def append(self, cache: NumpyKVCache) -> None:
        """Append a sequence from its prefilled cache."""
        row = len(self.lengths)
        self._all_keys_values[:, :, row, :, : cache.length] = cache.keys_values[:, :, 0, :, : cache.length]
        self._all_shift_state[:, :, row] = cache.shift_state[:, :, 0]
        self._resize(np.append(self.lengths, cache.length))

    def remove(self, row: int) -> None:
        """Remove a sequence; the last one moves to its row."""
        last, length = len(self.lengths) - 1, self.lengths[-1]
        self._all_keys_values[:, :, row, :, :length] = self._all_keys_values[:, :, last, :, :length]
        self._all_shift_state[:, :, row] = self._all_shift_state[:, :, last]
        self.lengths[row] = length
        self._resize(self.lengths[:-1])

    def positions(self, num_new: int) -> Array:
        """Return the next position of each sequence, (B, 1)."""
        return self.lengths[:, None]

    def mask(self, num_new: int) -> Array:
        """Return the additive mask (B, 1, 1, S): -inf at positions beyond the end of a sequence, else 0."""
        hidden = np.arange(int(self.lengths.max()) + 1) > self.lengths[:, None, None, None]
        return np.where(hidden, np.float32(-np.inf), np.float32(0))

    def extend(self, layer: int, keys_values: Array) -> Array:
        """Add the keys and values of one new position per sequence to a layer, as in `NumpyKVCache` with T = 1."""
        rows = np.arange(len(self.lengths))
        self.keys_values[layer, :, rows, :, self.lengths] = keys_values[:, :, :, 0].swapaxes(0, 1)
        return self.keys_values[layer, :, :, :, : self.lengths.max() + 1]

    def advance(self, num_new: int) -> None:
        """Count the new positions, after `extend` has been called for every layer."""
        self.lengths += num_new

    def _resize(self, lengths: Array) -> None:
        self.lengths = lengths
        self.keys_values = self._all_keys_values[:, :, : len(lengths)]
        self.shift_state = self._all_shift_state[:, :, : len(lengths)]
