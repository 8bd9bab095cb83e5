"""The feed-forward network of a block."""

from torch import Tensor, nn
from torch.nn import functional as F

from minillm.config import Activation
from minillm.model.dropout import Dropout


class FeedForward(nn.Module):
    """Let every position think for itself: widen four times, drop what is negative (ReLU), narrow again.

    Args:
        embed_dim: Channels C of input and output.
        hidden_dim: Channels between the two matrices.
        dropout: Probability of dropping an output channel.
        activation: `relu`, `squared_relu`, or `swiglu`: two narrower expansions, of which one opens and closes the
            other.

    Source: Vaswani et al. 2017, section 3.3, equation 2; So et al. 2021, "Primer" (squared ReLU); Shazeer 2020, "GLU
    Variants Improve Transformer" (SwiGLU).
    """

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float, activation: Activation = "relu") -> None:
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(embed_dim, 2 * hidden_dim if activation == "swiglu" else hidden_dim, bias=False)
        self.projection = nn.Linear(hidden_dim, embed_dim, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.dropout(self.projection(self._activate(self.expand(x))))

    def _activate(self, x: Tensor) -> Tensor:
        if self.activation == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            return F.silu(gate) * x
        x = F.relu(x, inplace=True)
        return x.square() if self.activation == "squared_relu" else x
