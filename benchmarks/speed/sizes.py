"""Model and batch sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model and of its batches; the defaults are those of the reference run."""

    batch_size: int = 32
    context_length: int = 64
    embed_dim: int = 128
    num_layers: int = 2
    num_heads: int = 4
    vocab_size: int = 65
