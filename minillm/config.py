"""Model configuration: the decoder's hyperparameters and weight shapes, without importing torch."""

from dataclasses import dataclass, fields
from typing import Any, Literal, NotRequired, Required, TypedDict, get_args

Position = Literal["learned", "rotary"]
Norm = Literal["layer", "rms"]
Activation = Literal["relu", "squared_relu", "swiglu"]
QueryKeyScale = Literal["head", "channel"]

NORM_EPSILON = 1e-5  # added to the variance or mean square in every norm; the default of nn.LayerNorm
ROTARY_BASE = 10_000.0  # wavelengths of the rotary embedding grow from 2π to 2π · ROTARY_BASE^(1 - 2/D) positions


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of the decoder's architecture.

    Args:
        vocab_size: Number of different tokens V.
        context_length: Maximum number of positions T in a sequence.
        embed_dim: Channels C of the residual stream.
        num_layers: Number of Transformer blocks.
        num_heads: Attention heads H per block, each with C / H channels.
        dropout: Dropout probability of the embeddings and of each branch's output.
        position: Position encoding: `learned` (one embedding per position) or `rotary` (relative positions).
        norm: Normalization: `layer` (LayerNorm) or `rms` (RMSNorm, without mean subtraction).
        query_key_norm: Normalize queries and keys (QK-norm).
        query_key_scale: Learned scale after this normalization: `head` (one number per head, for queries and keys) or
            `channel` (D numbers for queries and D for keys, which the heads share).
        activation: Activation of the feed-forward networks: `relu`, `squared_relu` or `swiglu`.
        token_shift: Blend each position with the previous one before attention and feed-forward network.
        zero_init: Initialize the output head and the branches' projections onto the residual stream with zeros.

    Raises:
        ValueError: A value has the wrong type, is out of range, or is inconsistent with the others.
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
    query_key_scale: QueryKeyScale = "head"
    activation: Activation = "relu"
    token_shift: bool = False
    zero_init: bool = False

    def __post_init__(self) -> None:
        """Validate every value: it may come from an untrusted checkpoint."""
        for field in fields(self):
            _check(field.name, getattr(self, field.name), field.type)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be divisible by num_heads {self.num_heads}")
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"position 'rotary' requires an even embed_dim / num_heads, got {self.head_dim}")

    @property
    def head_dim(self) -> int:
        """Channels D = C / H per attention head."""
        return self.embed_dim // self.num_heads

    @property
    def query_key_scale_shape(self) -> tuple[int, ...]:
        """Shape of the scale of queries and keys, which is multiplied by both, (2, B, H, T, D)."""
        return (self.num_heads, 1, 1) if self.query_key_scale == "head" else (2, 1, 1, 1, self.head_dim)

    @property
    def feed_forward_dim(self) -> int:
        """Hidden channels F of a feed-forward network.

        4 C; for SwiGLU, which has a third matrix, 8 ⌈C / 3⌉, so that the number of weights stays about the same.
        """
        return 8 * -(-self.embed_dim // 3) if self.activation == "swiglu" else 4 * self.embed_dim

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight in the decoder's `state_dict`, by name."""
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
            block["attention.scale"] = self.query_key_scale_shape
        if self.token_shift:
            block |= {"attention_shift.mix": (C,), "feed_forward_shift.mix": (C,)}
        shapes = {"token_embedding.weight": (V, C), "final_norm.weight": (C,), "output_head.weight": (V, C)}
        if self.position == "learned":
            shapes["position_embedding.weight"] = (self.context_length, C)
        layers = range(self.num_layers)
        return shapes | {f"blocks.{layer}.{name}": shape for layer in layers for name, shape in block.items()}


class ModelArguments(TypedDict):
    """Keyword arguments of ModelConfig, for functions that pass them on."""

    vocab_size: Required[int]
    context_length: Required[int]
    embed_dim: NotRequired[int]
    num_layers: NotRequired[int]
    num_heads: NotRequired[int]
    dropout: NotRequired[float]
    position: NotRequired[Position]
    norm: NotRequired[Norm]
    query_key_norm: NotRequired[bool]
    query_key_scale: NotRequired[QueryKeyScale]
    activation: NotRequired[Activation]
    token_shift: NotRequired[bool]
    zero_init: NotRequired[bool]


def _check(name: str, value: Any, expected_type: Any) -> None:
    """Check the type, and the range: integers are at least 1, floats at least 0 and less than 1."""
    if expected_type is int:
        if type(value) is not int:
            raise ValueError(f"{name} must be an integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    elif expected_type is float:
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {value}")
    elif expected_type is bool:
        if type(value) is not bool:
            raise ValueError(f"{name} must be true or false, got {value!r}")
    elif value not in get_args(expected_type):
        raise ValueError(f"{name} must be one of {', '.join(get_args(expected_type))}, got {value!r}")
