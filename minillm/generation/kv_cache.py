"""What a decoder remembers of the texts that it continues."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class KVCache:
    """The keys and values of the positions that texts have so far, so that they are not computed again.

    Whoever generates owns it. The texts of this one have equally many positions.

    Args:
        num_layers: Layers L.
        batch_size: Texts B.
        num_heads: Heads H.
        context_length: Most positions, S.
        head_dim: Channels of a head, D.
    """

    def __init__(self, num_layers: int, batch_size: int, num_heads: int, context_length: int, head_dim: int) -> None:
        self.keys_values: Array = np.zeros((num_layers, 2, batch_size, num_heads, context_length, head_dim), np.float32)
        self.newest: Array = np.zeros((num_layers, 2, batch_size, num_heads * head_dim), np.float32)  # for token shifts
        self.length = 0

    def repeat(self, batch_size: int) -> KVCache:
        """The memory of one text, as that of several that begin like it."""
        num_layers, _, _, *shape = self.keys_values.shape
        cache = KVCache(num_layers, batch_size, *shape)
        cache.keys_values[..., : self.length, :] = self.keys_values[..., : self.length, :]
        cache.newest[:] = self.newest
        cache.length = self.length
        return cache

    def positions(self, count: int) -> slice | Array:
        """The next `count` positions: of all texts, or (B, count) of each."""
        return slice(self.length, self.length + count)

    def mask(self, count: int) -> Array | None:
        """What hides the future from each of the next positions: minus infinity there, or None if nothing does."""
        if count == 1:  # a single position is the newest: there is no future
            return None
        return np.triu(np.full((count, self.length + count), -np.inf, np.float32), 1 + self.length)

    def extend(self, layer: int, keys_values: Array) -> Array:
        """Add those of the next positions, (2, B, H, T, D); returns those of all, (2, B, H, S, D)."""
        end = self.length + keys_values.shape[3]
        self.keys_values[layer, :, :, :, self.length : end] = keys_values
        return self.keys_values[layer, :, :, :, :end]

    def advance(self, count: int) -> None:
        """Every layer has added its part."""
        self.length += count


class RaggedKVCache(KVCache):
    """The same for texts of different lengths, which come and go; they take one position each at a time.

    Args:
        one: The memory of a single text, for the sizes.
        capacity: Most texts.
    """

    def __init__(self, one: KVCache, capacity: int) -> None:
        num_layers, _, _, *shape = one.keys_values.shape
        super().__init__(num_layers, capacity, *shape)
        self._all_keys_values, self._all_newest = self.keys_values, self.newest
        self.lengths: Array = np.empty(0, np.intp)

    def append(self, one: KVCache) -> None:
        """Take in a text, as the last one."""
        row = len(self.lengths)
        self._all_keys_values[:, :, row, :, : one.length] = one.keys_values[:, :, 0, :, : one.length]
        self._all_newest[:, :, row] = one.newest[:, :, 0]
        self._resize(np.append(self.lengths, one.length))

    def remove(self, row: int) -> None:
        """Forget a text; the last one takes its place."""
        last, length = len(self.lengths) - 1, self.lengths[-1]
        self._all_keys_values[:, :, row, :, :length] = self._all_keys_values[:, :, last, :, :length]
        self._all_newest[:, :, row] = self._all_newest[:, :, last]
        self.lengths[row] = length
        self._resize(self.lengths[:-1])

    def positions(self, count: int) -> Array:
        """The next position of each text, (B, 1)."""
        return self.lengths[:, None]

    def mask(self, count: int) -> Array:
        """What hides the places that a text has not come to yet, (B, 1, 1, S)."""
        hidden = np.arange(int(self.lengths.max()) + 1) > self.lengths[:, None, None, None]
        return np.where(hidden, np.float32(-np.inf), np.float32(0))

    def extend(self, layer: int, keys_values: Array) -> Array:
        """Add those of one position each, (2, B, H, 1, D); returns those of all, (2, B, H, S, D)."""
        rows = np.arange(len(self.lengths))
        self.keys_values[layer, :, rows, :, self.lengths] = keys_values[:, :, :, 0].swapaxes(0, 1)
        return self.keys_values[layer, :, :, :, : self.lengths.max() + 1]

    def advance(self, count: int) -> None:
        """Every layer has added its part."""
        self.lengths += count

    def _resize(self, lengths: Array) -> None:
        self.lengths = lengths
        self.keys_values = self._all_keys_values[:, :, : len(lengths)]
        self.newest = self._all_newest[:, :, : len(lengths)]
