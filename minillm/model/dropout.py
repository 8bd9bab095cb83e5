"""Dropout whose random numbers cost one byte an element."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero each element with probability `p` while training, and scale the others to keep the mean.

    `nn.Dropout` draws a float for every element from a sequential generator, which on a CPU takes longer than this
    model's matrix products. Here one 64-bit draw serves eight elements. So `p` is rounded to a multiple of 1/256,
    and the scale follows the rounded value.

    Args:
        p: Probability of zeroing an element, at least 0 and less than 1.

    Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.dropped_bytes = min(round(256 * p), 255)  # of the 256 values that a byte can have

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        if not self.training or self.dropped_bytes == 0:
            return x
        keep = _random_bytes(x).clamp_(self.dropped_bytes - 1, self.dropped_bytes).sub_(self.dropped_bytes - 1)
        return x * keep.to(x.dtype).mul_(256 / (256 - self.dropped_bytes))

    def extra_repr(self) -> str:
        """What print(model) shows."""
        return f"p={self.p}"


def _random_bytes(like: Tensor) -> Tensor:
    """Uniform bytes in the shape and on the device of `like`, from torch's global generator."""
    words = torch.empty((like.numel() + 7) // 8, dtype=torch.int64, device=like.device)
    return words.random_(-(2**63), None).view(torch.uint8)[: like.numel()].view(like.shape)
