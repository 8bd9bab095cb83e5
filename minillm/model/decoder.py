"""The decoder-only Transformer: token ids in, a score for every possible next token out."""

import math

import torch
from torch import Tensor, nn

from minillm.model.attention import CausalSelfAttention
from minillm.model.dropout import Dropout
from minillm.model.feed_forward import FeedForward


class Block(nn.Module):
    """One layer: positions exchange what they know, then each thinks; both add to the residual stream.

    Args:
        embed_dim: Channels C.
        num_heads: Attention heads H.
        dropout: Probability of dropping, as in the layer's parts.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embed_dim, bias=False)
        self.attention = CausalSelfAttention(embed_dim, num_heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(embed_dim, bias=False)
        self.feed_forward = FeedForward(embed_dim, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(nn.Module):
    """A GPT-style language model: embeddings, pre-norm blocks, a final norm, an output head.

    Args:
        vocab_size: Different tokens V.
        context_length: Most positions it can look at together.
        embed_dim: Channels C of the residual stream.
        num_layers: Blocks.
        num_heads: Attention heads H in each block.
        dropout: Probability of dropping a channel of the embedding, and of what each branch adds.

    Raises:
        ValueError: A size is below 1, `embed_dim` is not a multiple of `num_heads`, or `dropout` is not in [0, 1).

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    """

    def __init__(
        self, vocab_size: int, context_length: int, embed_dim: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "context_length": context_length, "embed_dim": embed_dim}
        for name, size in {**sizes, "num_layers": num_layers, "num_heads": num_heads}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocab_size, embed_dim)
        self.position_embedding = nn.Embedding(context_length, embed_dim)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, dropout) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(embed_dim, bias=False)
        self.output_head = nn.Linear(embed_dim, vocab_size, bias=False)
        self._initialize()

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
            maps.append(block.attention.weights(block.attention_norm(x)))
            x = block(x)
        return torch.stack(maps)

    def _embed(self, ids: Tensor) -> Tensor:
        device = ids.device
        x = self.token_embedding(ids) + self.position_embedding(torch.arange(ids.shape[1], device=device))
        if torch.is_autocast_enabled(device.type):  # a residual stream in bf16 spares a cast around every branch
            x = x.to(torch.get_autocast_dtype(device.type))
        return self.dropout(x)

    def _initialize(self) -> None:
        """GPT-2's: N(0, 0.02), and less for what each of the 2 x num_layers branches adds to the residual stream."""
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                depth = 2 * len(self.blocks) if name.endswith("projection.weight") else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))
