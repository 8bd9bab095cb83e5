"""PyTorch inference on any device, with the interface of NumpyDecoder."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from minillm.config import ModelConfig
from minillm.generation.numpy_kv_cache import Array
from minillm.model.custom import custom_parts
from minillm.model.kv_cache import KVCache


class TokenCache:
    """Token ids of past positions, which a model without a KV cache needs to compute those that follow.

    Args:
        ids: (B, T) token ids.
    """

    def __init__(self, ids: Array) -> None:
        self.ids = ids

    @property
    def length(self) -> int:
        """Number of past positions."""
        return self.ids.shape[1]

    def repeat(self, batch_size: int) -> Self:
        """Copy the cache of a single sequence to `batch_size` sequences."""
        return type(self)(self.ids.repeat(batch_size, axis=0))


class TorchDecoder:
    """Model for inference in PyTorch, with the interface of NumpyDecoder.

    Args:
        model: A `Decoder`, or any module that maps token ids (B, T) to logits (B, T, V) and has its ModelConfig as
            `config`. A model with custom parts computes all positions again for every token.
        forward: Called in place of the model: a wrapper of it that sets the precision, for example of Lightning Fabric.
    """

    def __init__(self, model: nn.Module, forward: nn.Module | None = None) -> None:
        config: Any = model.config
        assert isinstance(config, ModelConfig)
        self.model, self.forward, self.config = model, forward or model, config
        self.has_kv_cache = not custom_parts(model)

    def new_cache(self, batch_size: int) -> KVCache | TokenCache:
        """Create an empty cache for `batch_size` sequences."""
        if not self.has_kv_cache:
            return TokenCache(np.empty((batch_size, 0), np.intp))
        weight = next(self.model.parameters())
        return KVCache(self.config, batch_size, weight.device, weight.dtype)

    def new_ragged_cache(self, capacity: int) -> KVCache:
        """Create an empty KV cache to which sequences of different lengths can be appended, at most `capacity`."""
        assert self.has_kv_cache
        weight = next(self.model.parameters())
        return KVCache(self.config, 0, weight.device, weight.dtype)

    @torch.no_grad()
    def __call__(self, ids: Array, cache: KVCache | TokenCache) -> Array:
        """Compute the logits of the next token, and add the new positions to the cache.

        Args:
            ids: (B, T) token ids that follow those in the cache; together at most `config.context_length` positions.
            cache: Cache of the B sequences, updated in place.

        Returns:
            (B, V) float32 logits of the token after the last position.
        """
        if isinstance(cache, TokenCache):
            cache.ids = ids = np.concatenate([cache.ids, ids], axis=1)
        device = next((parameter.device for parameter in self.model.parameters()), None)
        tensor = torch.from_numpy(ids).to(device)
        training = self.model.training
        if training:
            self.model.eval()
        logits: Tensor = self.forward(tensor) if isinstance(cache, TokenCache) else self.forward(tensor, cache)
        if training:
            self.model.train()
        return logits[:, -1].float().cpu().numpy()
