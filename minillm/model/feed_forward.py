"""Position-wise feed-forward network."""

from torch import Tensor, nn
from torch.nn import functional as F

from minillm.config import Activation
from minillm.model.dropout import Dropout


class FeedForward(nn.Module):
    """Position-wise feed-forward network: activation(x W₁) W₂, expanding C channels to F and projecting back to C.

    Activations:
        `relu`: max(0, u)
        `squared_relu`: max(0, u)²
        `swiglu`: SiLU(g) · u, where W₁ has 2 F outputs, the gate g and the value u

    Args:
        embed_dim: Channels C of input and output.
        hidden_dim: Hidden channels F.
        dropout: Dropout probability of the output.
        activation: One of the above.

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
        """Map (..., C) to (..., C)."""
        return self.dropout(self.projection(self._activate(self.expand(x))))

    def _activate(self, x: Tensor) -> Tensor:
        if self.activation == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            return F.silu(gate) * x
        x = F.relu(x, inplace=True)
        return x.square() if self.activation == "squared_relu" else x
