"""The feed-forward network of a block."""

from torch import Tensor, nn
from torch.nn import functional as F

from minillm.model.dropout import Dropout


class FeedForward(nn.Module):
    """Let every position think for itself: widen four times, drop what is negative (ReLU), narrow again.

    Args:
        embed_dim: Channels C of input and output.
        dropout: Probability of dropping an output channel.

    Source: Vaswani et al. 2017, section 3.3, equation 2.
    """

    def __init__(self, embed_dim: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(embed_dim, 4 * embed_dim, bias=False)
        self.projection = nn.Linear(4 * embed_dim, embed_dim, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.dropout(self.projection(F.relu(self.expand(x), inplace=True)))
