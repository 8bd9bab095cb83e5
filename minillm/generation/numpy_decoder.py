"""The decoder once more, in NumPy and with a memory: what writes text, a token at a time.

With one position of one text to compute, PyTorch spends most of the time on its way to the matrix products. NumPy
gets there sooner, and is imported in a tenth of a second. `model/decoder.py` says what is computed; a test holds the
two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from minillm.model import Decoder

Array = NDArray[Any]
EPSILON = 1e-5  # nn.LayerNorm's


class Cache:
    """The keys and values of the positions that a text has so far, so that they are not computed again.

    Whoever generates owns it.

    Args:
        num_layers: Layers L.
        batch_size: Texts B.
        num_heads: Heads H.
        context_length: Most positions, S.
        head_dim: Channels of a head, D.
    """

    def __init__(self, num_layers: int, batch_size: int, num_heads: int, context_length: int, head_dim: int) -> None:
        self.keys_values = np.empty((num_layers, 2, batch_size, num_heads, context_length, head_dim), np.float32)
        self.length = 0

    def repeat(self, batch_size: int) -> Cache:
        """The memory of one text, as that of several that begin like it."""
        num_layers, _, _, *shape = self.keys_values.shape
        cache = Cache(num_layers, batch_size, *shape)
        cache.keys_values[..., : self.length, :] = self.keys_values[..., : self.length, :]
        cache.length = self.length
        return cache


class NumpyDecoder:
    """A trained decoder that continues texts.

    Args:
        weights: The decoder's, float32, by the names that its `state_dict` gives them.
        num_heads: Attention heads H in each block.
    """

    def __init__(self, weights: Mapping[str, Array], num_heads: int) -> None:
        self.weights = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
        self.num_heads = num_heads
        self.num_layers = sum(name.endswith("attention_norm.weight") for name in weights)
        self.context_length, self.embed_dim = self.weights["position_embedding"].shape

    @classmethod
    def of(cls, model: Decoder) -> Self:
        """The same model; on the CPU it shares its weights."""
        weights = {name: weight.detach().float().cpu().numpy() for name, weight in model.state_dict().items()}
        return cls(weights, model.blocks[0].attention.num_heads)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]

    def new_cache(self, batch_size: int) -> Cache:
        """An empty memory for that many texts."""
        head_dim = self.embed_dim // self.num_heads
        return Cache(self.num_layers, batch_size, self.num_heads, self.context_length, head_dim)

    def __call__(self, ids: Array, cache: Cache) -> Array:
        """Score every token as the next one.

        Args:
            ids: (B, T) token ids, which come after those that the cache holds; with them it holds at most
                `context_length`.
            cache: What is remembered of each text; these positions are added to it.

        Returns:
            (B, V) float32 logits, for what follows the last position.
        """
        B, T = ids.shape
        weights, begin, end = self.weights, cache.length, cache.length + T
        x = weights["token_embedding"][ids] + weights["position_embedding"][begin:end]
        x = x.reshape(B * T, self.embed_dim)
        for layer in range(self.num_layers):
            name = f"blocks.{layer}."
            normed = _layer_norm(x, weights[name + "attention_norm"])
            heads = normed @ weights[name + "attention.query_key_value"].T
            heads = heads.reshape(B, T, 3, self.num_heads, -1).transpose(2, 0, 3, 1, 4)
            keys_values = cache.keys_values[layer]
            keys_values[:, :, :, begin:end] = heads[1:]
            query = heads[0]
            if layer == self.num_layers - 1:  # what the earlier positions come to, nobody looks at any more
                x, query = x.reshape(B, T, -1)[:, -1], query[:, :, -1:]
            gathered = _attend(query, *keys_values[:, :, :, :end])
            x = x + gathered @ weights[name + "attention.projection"].T
            normed = _layer_norm(x, weights[name + "feed_forward_norm"])
            expanded = normed @ weights[name + "feed_forward.expand"].T
            x = x + np.maximum(expanded, 0, out=expanded) @ weights[name + "feed_forward.projection"].T
        cache.length = end
        return _layer_norm(x, weights["final_norm"]) @ weights["output_head"].T


def weight_shapes(vocab_size: int, context_length: int, embed_dim: int, num_layers: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a decoder's weights, by their names.

    Args:
        vocab_size: Different tokens V.
        context_length: Most positions.
        embed_dim: Channels C.
        num_layers: Blocks.
    """
    V, C = vocab_size, embed_dim
    block = {
        "attention_norm": (C,),
        "attention.query_key_value": (3 * C, C),
        "attention.projection": (C, C),
        "feed_forward_norm": (C,),
        "feed_forward.expand": (4 * C, C),
        "feed_forward.projection": (C, 4 * C),
    }
    shapes = {"token_embedding": (V, C), "position_embedding": (context_length, C)}
    shapes |= {f"blocks.{layer}.{name}": shape for layer in range(num_layers) for name, shape in block.items()}
    shapes |= {"final_norm": (C,), "output_head": (V, C)}
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def _layer_norm(x: Array, weight: Array) -> Array:
    """Centre and scale each row (R, C)."""
    C = x.shape[-1]
    x = x - np.add.reduce(x, axis=-1, keepdims=True) / C
    variance = np.vecdot(x, x)[:, None] / C
    return x / np.sqrt(variance + EPSILON) * weight


def _attend(query: Array, key: Array, value: Array) -> Array:
    """softmax(Q Kᵀ / √D) V with a causal mask: query (B, H, T, D), key and value (B, H, S, D), to (B * T, C)."""
    B, _, T, D = query.shape
    S = key.shape[2]
    scores = query @ key.swapaxes(2, 3)
    scores *= 1 / math.sqrt(D)
    if T > 1:  # a single position is the newest: there is no future
        scores += np.triu(np.full((T, S), -np.inf, np.float32), 1 + S - T)
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= np.add.reduce(weights, axis=-1, keepdims=True)
    return (weights @ value).swapaxes(1, 2).reshape(B * T, -1)
