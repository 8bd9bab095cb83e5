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
        # e^(i angle) as pairs of real numbers, because a conversion to bf16 would drop the imaginary part
        rotations = torch.view_as_real(torch.polar(torch.ones_like(angles), angles))
        self.register_buffer("rotations", rotations, persistent=False)

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Map (..., B, H, T, D) to the same shape: each pair of channels, as a complex number, times e^(i angle).

        Args:
            x: Queries or keys.
            positions: (B, T) positions; None for 0 to T - 1.
        """
        rotations = self.rotations[: x.shape[-2]] if positions is None else self.rotations[positions][:, None]
        pairs = x.float().reshape(*x.shape[:-1], -1, 2)
        rotated = torch.view_as_complex(pairs) * torch.view_as_complex(rotations.float())
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


def shift_after(previous: Tensor, x: Tensor, shift: nn.Module) -> Tensor:
    """Apply a token shift to the positions that follow those in a KV cache.

    Args:
        previous: (B, 1, C), the position before x; updated in place to the last position of x.
        x: (B, T, C)
        shift: A `TokenShift`, or the identity.
    """
    both = torch.cat([previous.to(x.dtype), x], dim=1)
    previous.copy_(x[:, -1:])
    return shift(both)[:, 1:]
