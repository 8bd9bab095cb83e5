"""Key/value cache: the decoder computes only the new positions of sequences that grow."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minillm.config import ModelConfig


@dataclass
class LayerCache:
    """One layer of a KV cache, during a call of the decoder with T new positions per sequence.

    Args:
        keys_values: (2, B, H, context length, D) keys and values; those of the new positions are written by `extend`.
        shift_inputs: (2, B, 1, C) inputs of the two token shifts at the newest position of each sequence.
        positions: (B, T) new positions.
        mask: (B · H, T, S) additive mask: -∞ where a key comes after the query, else 0.
    """

    keys_values: Tensor
    shift_inputs: Tensor
    positions: Tensor
    mask: Tensor

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values (B, H, T, D) of the new positions; return those of all positions, (B, H, S, D)."""
        rows = torch.arange(len(key), device=key.device)[:, None]
        for cached, new in zip(self.keys_values, (key, value), strict=True):
            cached[rows, :, self.positions] = new.transpose(1, 2).to(cached.dtype)
        keys, values = self.keys_values[..., : self.mask.shape[-1], :].to(key.dtype)
        return keys, values


class KVCache:
    """KV cache: the keys and values of past positions, for sequences that can have different lengths.

    The caller owns the cache; the decoder is stateless.

    Args:
        config: Architecture of the decoder.
        batch_size: Number of sequences, B.
        device, dtype: Where and how keys and values are stored.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        L, H, T, D = config.num_layers, config.num_heads, config.context_length, config.head_dim
        self.keys_values = torch.zeros(L, 2, batch_size, H, T, D, device=device, dtype=dtype)
        self.shift_inputs = torch.zeros(L, 2, batch_size, 1, H * D, device=device, dtype=dtype)
        self.lengths = [0] * batch_size  # numbers of past positions

    @property
    def length(self) -> int:
        """Number of past positions of the longest sequence."""
        return max(self.lengths, default=0)

    def layers(self, num_new: int) -> list[LayerCache]:
        """Return the cache of each layer for `num_new` new positions per sequence."""
        device, H = self.keys_values.device, self.keys_values.shape[3]
        first = torch.tensor(self.lengths, device=device)[:, None]
        positions = first + torch.arange(num_new, device=device)  # (B, T)
        is_later = torch.arange(self.length + num_new, device=device) > positions[..., None]  # (B, T, S)
        mask = torch.zeros(is_later.shape, device=device).masked_fill_(is_later, -math.inf).repeat_interleave(H, dim=0)
        pairs = zip(self.keys_values, self.shift_inputs, strict=True)
        return [LayerCache(keys_values, shift_inputs, positions, mask) for keys_values, shift_inputs in pairs]

    def advance(self, num_new: int) -> None:
        """Count the new positions, after every layer has been extended by them."""
        self.lengths = [length + num_new for length in self.lengths]

    def repeat(self, batch_size: int) -> KVCache:
        """Copy the cache of a single sequence to `batch_size` sequences, which share this prefix."""
        cache = copy.copy(self)
        cache.keys_values = self.keys_values.repeat_interleave(batch_size, dim=2)
        cache.shift_inputs = self.shift_inputs.repeat_interleave(batch_size, dim=2)
        cache.lengths = self.lengths * batch_size
        return cache

    def append(self, other: KVCache) -> None:
        """Append the sequences of another cache."""
        self.keys_values = torch.cat([self.keys_values, other.keys_values], dim=2)
        self.shift_inputs = torch.cat([self.shift_inputs, other.shift_inputs], dim=2)
        self.lengths = self.lengths + other.lengths

    def remove(self, row: int) -> None:
        """Remove a sequence; the last one moves to its row."""
        for tensor in (self.keys_values, self.shift_inputs):
            tensor[:, :, row] = tensor[:, :, -1]
        self.keys_values, self.shift_inputs = self.keys_values[:, :, :-1], self.shift_inputs[:, :, :-1]
        self.lengths[row] = self.lengths[-1]
        self.lengths = self.lengths[:-1]
