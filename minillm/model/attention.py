"""Multi-head causal self-attention, with the formula written out."""

import math

import torch
from torch import Tensor, nn

from minillm.model.dropout import Dropout
from minillm.model.norm import rms_normalize
from minillm.model.position import RotaryPosition


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """How much each position looks at itself and at each earlier one: softmax(Q Kᵀ / √D) under a causal mask.

    Args:
        query: (B, H, T, D)
        key: (B, H, T, D)

    Returns:
        (B, H, T, T): row t holds the weights of position t, which sum to 1 and are 0 after column t.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    B, H, T, D = query.shape
    future = torch.full((T, T), -math.inf, dtype=query.dtype, device=query.device).triu(diagonal=1)
    # future + Q Kᵀ / √D, for every text and head in one call
    scores = torch.baddbmm(future, query.flatten(0, 1), key.flatten(0, 1).mT, alpha=1 / math.sqrt(D))
    return torch.softmax(scores, dim=-1).view(B, H, T, T)


class CausalSelfAttention(nn.Module):
    """Let every position gather what it needs from the positions before it, in several ways (heads) at once.

    Args:
        embed_dim: Channels C of input and output.
        num_heads: Heads H; each works on C / H channels, a whole number.
        dropout: Probability of dropping an output channel.
        rotary: Turns queries and keys by their positions; None where the input tells positions already.
        query_key_norm: Give queries and keys a length of their own, which a head learns, so that scores cannot grow
            without bound (Henry et al. 2020, "Query-Key Normalization for Transformers").
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float,
        rotary: RotaryPosition | None = None,
        query_key_norm: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(embed_dim, 3 * embed_dim, bias=False)  # the three projections side by side
        self.projection = nn.Linear(embed_dim, embed_dim, bias=False)
        self.dropout = Dropout(dropout)
        self.rotary = rotary
        self.scale = nn.Parameter(torch.full((num_heads, 1, 1), 1.2)) if query_key_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        query, key, value = self._heads(x)
        gathered = attention_weights(query, key) @ value  # (B, H, T, D): for each position a mean of values
        return self.dropout(self.projection(gathered.transpose(1, 2).flatten(start_dim=2)))

    def weights(self, x: Tensor) -> Tensor:
        """The attention weights (B, H, T, T) for an input (B, T, C), to look at."""
        query, key, _ = self._heads(x)
        return attention_weights(query, key)

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value for each head, (B, H, T, D) each."""
        heads = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
        query_key, value = heads[:2], heads[2]
        if self.scale is not None:
            query_key = rms_normalize(query_key) * self.scale.to(x.dtype)
        if self.rotary is not None:
            query_key = self.rotary(query_key)
        return *query_key, value
