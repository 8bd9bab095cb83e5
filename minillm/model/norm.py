"""Root mean square normalization (RMSNorm)."""

import torch
from torch import Tensor, nn

from minillm.config import NORM_EPSILON


def rms_normalize(x: Tensor) -> Tensor:
    """Divide by the root mean square of the last dimension: x / √(mean(x²) + ε), (..., C) to (..., C).

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + NORM_EPSILON)


class RMSNorm(nn.Module):
    """RMSNorm: weight · x / √(mean(x²) + ε), which is LayerNorm without mean subtraction and bias.

    `nn.RMSNorm` takes twice as long on a CPU.

    Args:
        embed_dim: Channels C.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return rms_normalize(x) * self.weight.to(x.dtype)
