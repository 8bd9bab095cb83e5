"""Inverted dropout that draws one random byte per element."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout: during training, zero each element with probability `p` and scale the others by 1 / (1 - p).

    `nn.Dropout` draws a float per element from a sequential generator, which on a CPU takes as long as the largest
    matrix product of this model. Here one 64-bit draw serves eight elements. `p` is therefore rounded to a multiple of
    1/256 (at most 255/256), and the scale uses the rounded value.

    Args:
        p: Probability of zeroing an element, at least 0 and less than 1.

    Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = min(round(256 * p), 255)  # bytes below it drop their element

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        if not self.training or self.threshold == 0:
            return x
        # 1 where the byte is at least the threshold, else 0
        keep = _random_bytes(x).clamp_(self.threshold - 1, self.threshold).sub_(self.threshold - 1)
        return x * keep.to(x.dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        """Return the arguments that `print(model)` shows."""
        return f"p={self.p}"


def _random_bytes(like: Tensor) -> Tensor:
    """Draw uniform bytes in the shape and on the device of `like`, from torch's global generator."""
    words = torch.empty((like.numel() + 7) // 8, dtype=torch.int64, device=like.device)
    return words.random_(-(2**63), None).view(torch.uint8)[: like.numel()].view(like.shape)
