"""Decoder-only Transformer language model: from token ids to next-token logits."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minillm.config import NORM_EPSILON, ModelConfig
from minillm.model.attention import CausalSelfAttention
from minillm.model.dropout import Dropout
from minillm.model.feed_forward import FeedForward
from minillm.model.kv_cache import KVCache, LayerCache
from minillm.model.norm import RMSNorm
from minillm.model.position import RotaryEmbedding, TokenShift, shift_after


class Block(nn.Module):
    """Pre-norm Transformer block: x + attention(norm(x)), then x + feed_forward(norm(x)).

    Args:
        attention: Branch that mixes information between positions.
        feed_forward: Branch that transforms each position on its own.
        new_norm: Factory of the normalization before each branch.
        new_shift: Factory of the layer between normalization and branch: a token shift or the identity.
    """

    def __init__(
        self,
        attention: CausalSelfAttention,
        feed_forward: FeedForward,
        new_norm: Callable[[], nn.Module],
        new_shift: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.attention_norm = new_norm()
        self.attention_shift = new_shift()
        self.attention = attention
        self.feed_forward_norm = new_norm()
        self.feed_forward_shift = new_shift()
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Map (B, T, C) to (B, T, C); with a cache, these positions follow those in it."""
        if cache is None:
            x = x + self.attention(self.attention_shift(self.attention_norm(x)))
            return x + self.feed_forward(self.feed_forward_shift(self.feed_forward_norm(x)))
        attention_previous, feed_forward_previous = cache.shift_inputs
        shifted = shift_after(attention_previous, self.attention_norm(x), self.attention_shift)
        x = x + self.attention(shifted, cache)
        shifted = shift_after(feed_forward_previous, self.feed_forward_norm(x), self.feed_forward_shift)
        return x + self.feed_forward(shifted)

    def attention_weights(self, x: Tensor) -> Tensor:
        """Return the attention weights (B, H, T, T) for an input (B, T, C)."""
        return self.attention.weights(self.attention_shift(self.attention_norm(x)))


class Decoder(nn.Module):
    """GPT-style language model: embeddings, pre-norm Transformer blocks, a final norm, an output head.

    Args:
        config: Hyperparameters of the architecture.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        C = config.embed_dim
        rotary = RotaryEmbedding(config.context_length, config.head_dim) if config.position == "rotary" else None

        scale = config.query_key_scale_shape if config.query_key_norm else None

        def new_norm() -> nn.Module:
            return RMSNorm(C) if config.norm == "rms" else nn.LayerNorm(C, eps=NORM_EPSILON, bias=False)

        def new_shift() -> nn.Module:
            return TokenShift(C) if config.token_shift else nn.Identity()

        def new_block() -> Block:
            attention = CausalSelfAttention(C, config.num_heads, config.dropout, rotary, scale)
            feed_forward = FeedForward(C, config.feed_forward_dim, config.dropout, config.activation)
            return Block(attention, feed_forward, new_norm, new_shift)

        self.token_embedding = nn.Embedding(config.vocab_size, C)
        self.position_embedding = None if rotary else nn.Embedding(config.context_length, C)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(new_block() for _ in range(config.num_layers))
        self.final_norm = new_norm()
        self.output_head = nn.Linear(C, config.vocab_size, bias=False)
        self._initialize(config.zero_init)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Compute the logits of the next token at every position.

        Args:
            ids: (B, T) token ids; each sequence has at most `config.context_length`, with those in the cache.
            cache: KV cache of the tokens before `ids`, updated in place: it then includes `ids`. For inference only.

        Returns:
            (B, T, V) float32 logits, with a cache without a gradient; those at position t depend only on the cache and
            `ids[:, : t + 1]`.

        Raises:
            ValueError: The sequences are longer than the context.
        """
        length = ids.shape[1] + (cache.length if cache else 0)
        if length > self.config.context_length:
            raise ValueError(f"sequence length {length} exceeds context_length {self.config.context_length}")
        return self._extend(ids, cache) if cache else self.output_head(self.hidden_states(ids)).float()

    def hidden_states(self, ids: Tensor) -> Tensor:
        """Return the input of the output head, (B, T, C), for token ids (B, T)."""
        x = self._embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x)

    @torch.no_grad()
    def _extend(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Compute the logits of the positions that follow those in a cache."""
        layers = cache.layers(ids.shape[1])
        x = self._embed(ids, layers[0].positions)
        for block, layer in zip(self.blocks, layers, strict=True):
            x = block(x, layer)
        cache.advance(ids.shape[1])
        return self.output_head(self.final_norm(x)).float()

    @torch.no_grad()
    def attention_maps(self, ids: Tensor) -> Tensor:
        """Return the attention weights of every layer and head, for visualization.

        Args:
            ids: (B, T) token ids.

        Returns:
            (num_layers, B, H, T, T) attention weights, without a gradient.
        """
        x, maps = self._embed(ids), list[Tensor]()
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attention_weights(x))
            x = block(x)
        return torch.stack(maps)

    def _embed(self, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Map token ids (B, T), at positions (B, T) or 0 to T - 1, to the input of the first block (B, T, C)."""
        device = ids.device
        x = self.token_embedding(ids)
        if self.position_embedding is not None:
            positions = torch.arange(ids.shape[1], device=device) if positions is None else positions
            x = x + self.position_embedding(positions)
        if torch.is_autocast_enabled(device.type):  # a low-precision residual stream saves a cast around every branch
            x = x.to(torch.get_autocast_dtype(device.type))
        return self.dropout(x)

    def _initialize(self, zero_init: bool) -> None:
        """Initialize as in GPT-2: std 0.02, divided by √(2 num_layers) for the two residual projections of each block.

        Args:
            zero_init: Initialize these projections and the output head with zeros instead.
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                is_residual_projection = name.endswith("projection.weight")
                std = 0.02 / math.sqrt(2 * len(self.blocks)) if is_residual_projection else 0.02
                if zero_init and (is_residual_projection or name == "output_head.weight"):
                    std = 0.0
                nn.init.normal_(parameter, std=std)
