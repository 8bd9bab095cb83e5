"""PyTorch inference for models with parts of their own, without a KV cache."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import nn

from minillm.config import ModelConfig
from minillm.generation.kv_cache import Array


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
        model: Any module that maps token ids (B, T) to logits (B, T, V), and has its ModelConfig as `config`.
    """

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        assert isinstance(config, ModelConfig)
        self.model, self.config = model, config
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    def new_cache(self, batch_size: int) -> TokenCache:
        """Create an empty cache for `batch_size` sequences."""
        return TokenCache(np.empty((batch_size, 0), np.intp))

    @torch.no_grad()
    def __call__(self, ids: Array, cache: TokenCache) -> Array:
        """Compute the logits of the next token, and add the new positions to the cache.

        Args:
            ids: (B, T) token ids that follow those in the cache; together at most `config.context_length` positions.
            cache: Cache of the B sequences, updated in place.

        Returns:
            (B, V) float32 logits of the token after the last position.
        """
        cache.ids = np.concatenate([cache.ids, ids], axis=1)
        training = self.model.training
        logits: torch.Tensor = self.model.eval()(torch.from_numpy(cache.ids).to(self.device))
        self.model.train(training)
        return logits[:, -1].float().cpu().numpy()
