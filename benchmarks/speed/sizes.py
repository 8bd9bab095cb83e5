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


GENERATION_SIZES = {  # those of these configurations
    "minillm.yaml": Sizes(),
    "laptop.yaml": Sizes(context_length=256, embed_dim=160, num_layers=3, num_heads=5),
    "gpu.yaml": Sizes(context_length=256, embed_dim=384, num_layers=6, num_heads=6),
}
