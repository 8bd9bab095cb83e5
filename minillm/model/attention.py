"""Multi-head causal self-attention, with its formula written out."""

import math

import torch
from torch import Tensor, nn

from minillm.model.dropout import Dropout
from minillm.model.kv_cache import LayerCache
from minillm.model.norm import rms_normalize
from minillm.model.position import RotaryEmbedding


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """Causal attention weights: softmax(Q Kᵀ / √D + M), where the mask M is -∞ above the diagonal and 0 elsewhere.

    Args:
        query: (B, H, T, D)
        key: (B, H, S, D), with S = T unless there is a KV cache
        mask: (B · H, T, S) mask in place of M, for the positions after those in a KV cache.

    Returns:
        (B, H, T, S) weights. Each row is the distribution of a position over itself and the positions before it; it is
        0 after them.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    B, H, T, D = query.shape
    if mask is None:
        mask = torch.full((T, T), -math.inf, dtype=query.dtype, device=query.device).triu(diagonal=1)
    # mask + Q Kᵀ / √D, for all sequences and heads in one call
    scores = torch.baddbmm(mask, query.flatten(0, 1), key.flatten(0, 1).mT, alpha=1 / math.sqrt(D))
    return torch.softmax(scores, dim=-1).view(B, H, T, -1)


class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention: Concat(head_1, ..., head_H) Wᴼ, with head_h = softmax(Q Kᵀ / √D + M) V.

    Each head has its own linear projections Q, K and V of the input. The causal mask M restricts each position to
    itself and earlier positions.

    Args:
        embed_dim: Channels C of input and output.
        num_heads: Number of heads H, which must divide C.
        dropout: Dropout probability of the output.
        rotary: Rotary position embedding of queries and keys; None if the input already encodes the positions.
        query_key_scale: Shape of the learned scale of QK-norm: (H, 1, 1) for a number per head, or (2, 1, 1, 1, D) for
            one per channel of the queries and of the keys. QK-norm RMS-normalizes queries and keys and multiplies them
            by the scale, so that the size of the scores does not depend on that of the activations. None leaves it out.

    Source: Vaswani et al. 2017, section 3.2.2; Henry et al. 2020, "Query-Key Normalization for Transformers" (scale per
    head); Yang et al. 2025, "Qwen3 Technical Report" (per channel).
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float,
        rotary: RotaryEmbedding | None = None,
        query_key_scale: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(embed_dim, 3 * embed_dim, bias=False)  # three projections, concatenated
        self.projection = nn.Linear(embed_dim, embed_dim, bias=False)
        self.dropout = Dropout(dropout)
        self.rotary = rotary
        self.scale = None if query_key_scale is None else nn.Parameter(torch.full(query_key_scale, 1.2))

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Map (B, T, C) to (B, T, C); with a cache, these positions also attend to those in it, which precede them."""
        query, key, value = self._project(x, cache.positions if cache else None)
        if cache:
            key, value = cache.extend(key, value)
        weights = attention_weights(query, key, cache.mask.to(query.dtype) if cache else None)
        heads = weights @ value  # (B, H, T, D): weighted means of the values
        return self.dropout(self.projection(heads.transpose(1, 2).flatten(start_dim=2)))

    def weights(self, x: Tensor) -> Tensor:
        """Return the attention weights (B, H, T, T) for an input (B, T, C)."""
        query, key, _ = self._project(x)
        return attention_weights(query, key)

    def _project(self, x: Tensor, positions: Tensor | None = None) -> tuple[Tensor, ...]:
        """Project (B, T, C) to the query, key and value of each head, (B, H, T, D) each."""
        qkv = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
        query_key, value = qkv[:2], qkv[2]
        if self.scale is not None:
            query_key = rms_normalize(query_key) * self.scale.to(x.dtype)
        if self.rotary is not None:
            query_key = self.rotary(query_key, positions)
        return *query_key, value
