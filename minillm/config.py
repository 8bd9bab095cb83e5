"""Model configuration: what a decoder may be, stated once and without importing torch."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Position = Literal["learned", "rotary"]
Norm = Literal["layer", "rms"]
Activation = Literal["relu", "squared_relu", "swiglu"]

NORM_EPSILON = 1e-5  # added to the variance or mean square in every norm; the default of nn.LayerNorm
ROTARY_BASE = 10_000.0  # the slowest pair of channels turns once in 2π times as many positions


@dataclass(frozen=True)
class ModelConfig:
    """The size and the parts of a decoder.

    Args:
        vocab_size: Number of different tokens V.
        context_length: Maximum number of positions T that attention sees together.
        embed_dim: Channels C of the residual stream.
        num_layers: Number of blocks.
        num_heads: Attention heads H in each block, each of C / H channels.
        dropout: Probability of dropping a channel of the embedding, and of what each branch adds.
        position: Positional information: `learned` (an embedding for each position) or `rotary` (attention sees
            distances).
        norm: `layer`, or `rms`, which does without the mean.
        query_key_norm: Normalize queries and keys.
        activation: Activation of the feed-forward networks: `relu`, `squared_relu` or `swiglu`.
        token_shift: Blend each position with the one before it, ahead of attention and feed-forward network.
        zero_init: Initialize with zeros what adds to the residual stream, and the output head.

    Raises:
        ValueError: A value is not of its type, out of its range, or does not fit the others.
    """

    vocab_size: int
    context_length: int
    embed_dim: int = 128
    num_layers: int = 2
    num_heads: int = 4
    dropout: float = 0.2
    position: Position = "learned"
    norm: Norm = "layer"
    query_key_norm: bool = False
    activation: Activation = "relu"
    token_shift: bool = False
    zero_init: bool = False

    def __post_init__(self) -> None:
        """Check every value, which may come from a checkpoint that a stranger wrote."""
        for field in fields(self):
            _check(field.name, getattr(self, field.name), field.type)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be divisible by num_heads {self.num_heads}")
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need pairs of channels, but embed_dim / num_heads is {self.head_dim}")

    @property
    def head_dim(self) -> int:
        """Channels D of an attention head."""
        return self.embed_dim // self.num_heads

    @property
    def feed_forward_dim(self) -> int:
        """Channels between the two matrices of a feed-forward network.

        Four times the embedding; of SwiGLU, which has a third matrix, two thirds of that: about as many weights.
        """
        return 8 * -(-self.embed_dim // 3) if self.activation == "swiglu" else 4 * self.embed_dim

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a decoder's weights, by their names in its `state_dict`."""
        V, C, F = self.vocab_size, self.embed_dim, self.feed_forward_dim
        block: dict[str, tuple[int, ...]] = {
            "attention_norm.weight": (C,),
            "attention.query_key_value.weight": (3 * C, C),
            "attention.projection.weight": (C, C),
            "feed_forward_norm.weight": (C,),
            "feed_forward.expand.weight": (2 * F if self.activation == "swiglu" else F, C),
            "feed_forward.projection.weight": (C, F),
        }
        if self.query_key_norm:
            block["attention.scale"] = (self.num_heads, 1, 1)
        if self.token_shift:
            block |= {"attention_shift.mix": (C,), "feed_forward_shift.mix": (C,)}
        shapes = {"token_embedding.weight": (V, C), "final_norm.weight": (C,), "output_head.weight": (V, C)}
        if self.position == "learned":
            shapes["position_embedding.weight"] = (self.context_length, C)
        layers = range(self.num_layers)
        return shapes | {f"blocks.{layer}.{name}": shape for layer in layers for name, shape in block.items()}


def _check(name: str, value: Any, kind: Any) -> None:
    """Refuse a value that is not of a field's type, or outside the range that all fields of that type have."""
    if kind is int:
        if type(value) is not int:
            raise ValueError(f"{name} must be an integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    elif kind is float:
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {value}")
    elif kind is bool:
        if type(value) is not bool:
            raise ValueError(f"{name} must be true or false, got {value!r}")
    elif value not in get_args(kind):
        raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
