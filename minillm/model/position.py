"""Rotary position embedding and token shift."""

import torch
from torch import Tensor, nn

from minillm.config import ROTARY_BASE


class RotaryEmbedding(nn.Module):
    """Rotary position embedding: rotate each pair of channels by position · frequency, a frequency per pair.

    After this rotation, the score of a query at position m and a key at position n depends on positions
    only through the distance m - n.

    Args:
        context_length: Maximum number of positions.
        head_dim: Channels D per head, an even number; channels 2i and 2i + 1 form pair i.

    Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", equation 14.
    """

    rotations: Tensor

    def __init__(self, context_length: int, head_dim: int) -> None:
        super().__init__()
        frequencies = ROTARY_BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.outer(torch.arange(context_length), frequencies)
        self.register_buffer("rotations", torch.polar(torch.ones_like(angles), angles), persistent=False)  # e^(i angle)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., T, D) to (..., T, D): each pair of channels, as a complex number, times e^(i angle)."""
        pairs = x.float().reshape(*x.shape[:-1], -1, 2)
        rotated = torch.view_as_complex(pairs) * self.rotations[: x.shape[-2]]
        return torch.view_as_real(rotated).flatten(start_dim=-2).to(x.dtype)


class TokenShift(nn.Module):
    """Token shift: (1 - mix) · x[t] + mix · x[t - 1], with a learned mix per channel.

    It gives a branch access to the previous position without attention. The mix is initialized to 0, the identity.

    Args:
        embed_dim: Channels C.

    Source: Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", section 3.1.1.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C). The position before the first is taken to be 0."""
        previous = nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
        return torch.lerp(x, previous, self.mix.to(x.dtype))
