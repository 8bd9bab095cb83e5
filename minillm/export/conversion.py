"""Exact changes of the weights, so that the decoder of another program computes the same function.

Weights are NumPy arrays by their names in the `state_dict` of `Decoder`; matrices are (out, in).
"""

import numpy as np
from numpy.typing import NDArray

from minillm.config import ModelConfig

Array = NDArray[np.float32]
Weights = dict[str, Array]


def center_residual_stream(weights: Weights) -> Weights:
    """Return the weights of the same model with RMSNorm in place of LayerNorm without bias.

    LayerNorm subtracts the mean over the channels. If that is 0, it equals RMSNorm with the same weight. The mean of a
    residual stream is 0 if it is 0 in everything that is added to it: the embeddings and the outputs of the branches.

    Source: Ashkboos et al. 2024, "SliceGPT", section 3.1 (LayerNorm transformers as RMSNorm transformers).
    """
    centered = dict(weights)
    for name, weight in weights.items():
        if name.endswith("_embedding.weight"):
            centered[name] = weight - weight.mean(axis=1, keepdims=True, dtype=np.float64)
        elif name.endswith("projection.weight"):
            centered[name] = weight - weight.mean(axis=0, keepdims=True, dtype=np.float64)
    return {name: weight.astype(np.float32) for name, weight in centered.items()}


def halves_of_pairs(rows: Array, num_heads: int) -> Array:
    """Reorder the channels of each head for a rotary embedding whose pairs are (i, i + D / 2), not (2i, 2i + 1).

    Args:
        rows: (H D, ...) rows of a query or key matrix, or the scale (D,) of all heads with `num_heads` 1.
        num_heads: Number of heads, H.
    """
    pairs = rows.reshape(num_heads, -1, 2, *rows.shape[1:])  # (H, D / 2, 2, ...)
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def block_weights(weights: Weights, layer: int) -> Weights:
    """Return the weights of a block, by their names in it."""
    prefix = f"blocks.{layer}."
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def unsupported(config: ModelConfig, supported: dict[str, tuple[object, ...]]) -> str | None:
    """Return the first setting that another decoder does not have, such as `token_shift true`, or None.

    Args:
        config: Configuration of the model.
        supported: Values that the other decoder has, by the name of the setting.
    """
    for name, values in supported.items():
        value = getattr(config, name)
        if value not in values:
            return f"{name} {str(value).lower() if isinstance(value, bool) else value}"
    return None
