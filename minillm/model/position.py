"""Where a token stands."""

import torch
from torch import Tensor, nn

from minillm.config import ROTARY_BASE


class RotaryPosition(nn.Module):
    """Turn queries and keys, pair of channels by pair, by angles that grow with the position.

    A query at m and a key at n then meet at angles that depend on m - n alone: attention sees distances.

    Args:
        context_length: Most positions.
        head_dim: Channels D of a head, an even number; channels 2i and 2i + 1 are a pair.

    Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", equation 14.
    """

    rotations: Tensor

    def __init__(self, context_length: int, head_dim: int) -> None:
        super().__init__()
        speeds = ROTARY_BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.outer(torch.arange(context_length), speeds)
        self.register_buffer("rotations", torch.polar(torch.ones_like(angles), angles), persistent=False)  # e^(i angle)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., T, D) to (..., T, D): a pair as a complex number, times e^(i angle)."""
        pairs = x.float().reshape(*x.shape[:-1], -1, 2)
        turned = torch.view_as_complex(pairs) * self.rotations[: x.shape[-2]]
        return torch.view_as_real(turned).flatten(start_dim=-2).to(x.dtype)


class TokenShift(nn.Module):
    """Blend each position with the one before it, by a learned amount a channel.

    So a branch knows what stands just before without having to look for it. It begins as no blend at all.

    Args:
        embed_dim: Channels C.

    Source: Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", section 3.1.1.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C); before the first position there is nothing but zeros."""
        previous = nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
        return torch.lerp(x, previous, self.mix.to(x.dtype))
