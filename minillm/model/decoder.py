"""The decoder-only Transformer: token ids in, a score for every possible next token out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minillm.config import NORM_EPSILON, ModelConfig
from minillm.model.attention import CausalSelfAttention
from minillm.model.dropout import Dropout
from minillm.model.feed_forward import FeedForward
from minillm.model.norm import RMSNorm
from minillm.model.position import RotaryPosition, TokenShift


class Block(nn.Module):
    """One layer: positions exchange what they know, then each thinks; both add to the residual stream.

    Args:
        attention: How positions exchange.
        feed_forward: How each thinks.
        new_norm: Makes a norm, which both have before them.
        new_shift: Makes what comes between norm and branch: a token shift or nothing.
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

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x + self.attention(self.attention_shift(self.attention_norm(x)))
        return x + self.feed_forward(self.feed_forward_shift(self.feed_forward_norm(x)))

    def attention_weights(self, x: Tensor) -> Tensor:
        """The attention weights (B, H, T, T) for an input (B, T, C), to look at."""
        return self.attention.weights(self.attention_shift(self.attention_norm(x)))


class Decoder(nn.Module):
    """A GPT-style language model: embeddings, pre-norm blocks, a final norm, an output head.

    Args:
        config: Its size and its parts.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        C = config.embed_dim
        rotary = RotaryPosition(config.context_length, config.head_dim) if config.position == "rotary" else None

        def new_norm() -> nn.Module:
            return RMSNorm(C) if config.norm == "rms" else nn.LayerNorm(C, eps=NORM_EPSILON, bias=False)

        def new_shift() -> nn.Module:
            return TokenShift(C) if config.token_shift else nn.Identity()

        def new_block() -> Block:
            attention = CausalSelfAttention(C, config.num_heads, config.dropout, rotary, config.query_key_norm)
            feed_forward = FeedForward(C, config.feed_forward_dim, config.dropout, config.activation)
            return Block(attention, feed_forward, new_norm, new_shift)

        self.token_embedding = nn.Embedding(config.vocab_size, C)
        self.position_embedding = None if rotary else nn.Embedding(config.context_length, C)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(new_block() for _ in range(config.num_layers))
        self.final_norm = new_norm()
        self.output_head = nn.Linear(C, config.vocab_size, bias=False)
        self._initialize(config.zero_init)

    def forward(self, ids: Tensor) -> Tensor:
        """Score every token as the next one, at every position.

        Args:
            ids: (B, T) token ids, T at most `config.context_length`.

        Returns:
            (B, T, V) float32 logits; those at position t depend on `ids[:, : t + 1]` alone.

        Raises:
            ValueError: There are more tokens than positions in the context.
        """
        if ids.shape[1] > self.config.context_length:
            raise ValueError(f"the context has {self.config.context_length} positions, got {ids.shape[1]} tokens")
        x = self._embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.output_head(self.final_norm(x)).float()

    @torch.no_grad()
    def attention_maps(self, ids: Tensor) -> Tensor:
        """The attention weights of every layer and head, to look at.

        Args:
            ids: (B, T) token ids.

        Returns:
            (num_layers, B, H, T, T)
        """
        x, maps = self._embed(ids), list[Tensor]()
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attention_weights(x))
            x = block(x)
        return torch.stack(maps)

    def _embed(self, ids: Tensor) -> Tensor:
        device = ids.device
        x = self.token_embedding(ids)
        if self.position_embedding is not None:
            x = x + self.position_embedding(torch.arange(ids.shape[1], device=device))
        if torch.is_autocast_enabled(device.type):  # a residual stream in bf16 spares a cast around every branch
            x = x.to(torch.get_autocast_dtype(device.type))
        return self.dropout(x)

    def _initialize(self, zero_init: bool) -> None:
        """GPT-2's: N(0, 0.02), and less (or 0) for what each of the 2 x num_layers branches adds to the residual."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                adds = name.endswith("projection.weight")
                spread = 0.02 / math.sqrt(2 * len(self.blocks)) if adds else 0.02
                if zero_init and (adds or name == "output_head.weight"):
                    spread = 0.0
                nn.init.normal_(parameter, std=spread)
