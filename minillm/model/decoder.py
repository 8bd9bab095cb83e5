"""The decoder-only Transformer: token ids in, a score for every possible next token out."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from minillm.model.attention import CausalSelfAttention
from minillm.model.dropout import Dropout
from minillm.model.feed_forward import Activation, FeedForward
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
        vocab_size: Different tokens V.
        context_length: Most positions it can look at together.
        embed_dim: Channels C of the residual stream.
        num_layers: Blocks.
        num_heads: Attention heads H in each block.
        dropout: Probability of dropping a channel of the embedding, and of what each branch adds.
        position: How it knows where a token stands: `learned` (an embedding for each position) or `rotary` (attention
            sees distances).
        norm: `layer` or `rms`, which does without the mean.
        query_key_norm: Normalize queries and keys.
        activation: Of the feed-forward networks: `relu`, `squared_relu` or `swiglu`.
        token_shift: Blend each position with the one before it, ahead of attention and feed-forward network.
        zero_init: Begin with branches that add nothing, and a head that expects every token alike.

    Raises:
        ValueError: A size is below 1, `embed_dim` is not a multiple of `num_heads`, or `dropout` is not in [0, 1).

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        embed_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.2,
        position: Literal["learned", "rotary"] = "learned",
        norm: Literal["layer", "rms"] = "layer",
        query_key_norm: bool = False,
        activation: Activation = "relu",
        token_shift: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        sizes = {"vocab_size": vocab_size, "context_length": context_length, "embed_dim": embed_dim}
        for name, size in {**sizes, "num_layers": num_layers, "num_heads": num_heads}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.context_length = context_length
        rotary = RotaryPosition(context_length, embed_dim // num_heads) if position == "rotary" else None

        def new_norm() -> nn.Module:
            return RMSNorm(embed_dim) if norm == "rms" else nn.LayerNorm(embed_dim, bias=False)

        def new_shift() -> nn.Module:
            return TokenShift(embed_dim) if token_shift else nn.Identity()

        def new_block() -> Block:
            attention = CausalSelfAttention(embed_dim, num_heads, dropout, rotary, query_key_norm)
            return Block(attention, FeedForward(embed_dim, dropout, activation), new_norm, new_shift)

        self.token_embedding = nn.Embedding(vocab_size, embed_dim)
        self.position_embedding = None if rotary else nn.Embedding(context_length, embed_dim)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(new_block() for _ in range(num_layers))
        self.final_norm = new_norm()
        self.output_head = nn.Linear(embed_dim, vocab_size, bias=False)
        self._initialize(zero_init)

    def forward(self, ids: Tensor) -> Tensor:
        """Score every token as the next one, at every position.

        Args:
            ids: (B, T) token ids, T at most `context_length`.

        Returns:
            (B, T, V) float32 logits; those at position t depend on `ids[:, : t + 1]` alone.

        Raises:
            ValueError: There are more than `context_length` positions.
        """
        if ids.shape[1] > self.context_length:
            raise ValueError(f"the model looks at {self.context_length} positions together, got {ids.shape[1]}")
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
        x, maps = self._embed(ids), []
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
