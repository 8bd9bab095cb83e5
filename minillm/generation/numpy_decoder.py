"""The decoder once more, in NumPy and with a memory: what writes text, a token at a time.

With one position of one text to compute, PyTorch spends most of the time on its way to the matrix products. NumPy
gets there sooner, and is imported in a tenth of a second. `model/decoder.py` says what is computed; a test holds the
two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np

from minillm.config import NORM_EPSILON, ROTARY_BASE, ModelConfig
from minillm.generation.kv_cache import Array, KVCache

if TYPE_CHECKING:
    from minillm.model import Decoder

MATRICES = ("query_key_value", "projection", "expand", "output_head")  # nn.Linear keeps them the other way round


class NumpyDecoder:
    """A trained decoder that continues texts.

    Args:
        weights: The decoder's, float32, by the names that its `state_dict` gives them.
        config: Its size and its parts.
    """

    def __init__(self, weights: Mapping[str, Array], config: ModelConfig) -> None:
        self.config = config
        self.weights = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
        for name, weight in self.weights.items():
            if name.endswith(MATRICES):
                self.weights[name] = np.ascontiguousarray(weight.T)
        self.norm = {"layer": _layer_norm, "rms": _rms_norm}[config.norm]
        self.activate = {"relu": _relu, "squared_relu": _squared_relu, "swiglu": _swiglu}[config.activation]
        self.rotations = _rotations(config.context_length, config.head_dim) if config.position == "rotary" else None

    @classmethod
    def of(cls, model: Decoder) -> Self:
        """The same model."""
        weights = {name: weight.detach().float().cpu().numpy() for name, weight in model.state_dict().items()}
        return cls(weights, model.config)

    def new_cache(self, batch_size: int) -> KVCache:
        """An empty memory for that many texts."""
        config = self.config
        return KVCache(config.num_layers, batch_size, config.num_heads, config.context_length, config.head_dim)

    def __call__(self, ids: Array, cache: KVCache) -> Array:
        """Score every token as the next one.

        Args:
            ids: (B, T) token ids, which come after those that the cache holds; with them it holds at most
                `config.context_length`.
            cache: What is remembered of each text; these positions are added to it.

        Returns:
            (B, V) float32 logits, for what follows the last position.
        """
        return self._logits(self._blocks(ids, cache)[:, -1])

    def logits_and_attention(self, ids: Array) -> tuple[Array, Array]:
        """What the decoder computes on the way, to look at.

        Args:
            ids: (B, T) token ids, at most `config.context_length` of each text.

        Returns:
            (B, T, V) logits for what follows each position, and (num_layers, B, H, T, T) attention weights.
        """
        weights: list[Array] = []
        return self._logits(self._blocks(ids, self.new_cache(len(ids)), weights)), np.stack(weights)

    def _blocks(self, ids: Array, cache: KVCache, collected: list[Array] | None = None) -> Array:
        """What leaves the last layer, (B, T, C); of the last position alone, if nobody collects attention weights."""
        (B, T), C = ids.shape, self.config.embed_dim
        positions, mask = cache.positions(T), cache.mask(T)
        x = self.weights["token_embedding"][ids]
        if self.rotations is None:
            x = x + self.weights["position_embedding"][positions]
        x = x.reshape(B * T, C)
        for layer in range(self.config.num_layers):
            x, weights = self._block(layer, x, cache, positions, mask, last_only=collected is None)
            if collected is not None:
                collected.append(weights)
        cache.advance(T)
        return x.reshape(B, -1, C)

    def _block(
        self, layer: int, x: Array, cache: KVCache, positions: slice | Array, mask: Array | None, last_only: bool
    ) -> tuple[Array, Array]:
        """What leaves a layer, (B * T, C), and its attention weights (B, H, T, S)."""
        config, weights, name, B = self.config, self.weights, f"blocks.{layer}.", cache.newest.shape[2]
        normed = self.norm(x, weights[name + "attention_norm"])
        if config.token_shift:
            normed = _shift(normed, cache.newest[layer, 0], weights[name + "attention_shift.mix"])
        heads = normed @ weights[name + "attention.query_key_value"]
        heads = heads.reshape(B, -1, 3, config.num_heads, config.head_dim).transpose(2, 0, 3, 1, 4)
        if config.query_key_norm:
            heads[:2] = _rms_normalize(heads[:2]) * weights[name + "attention.scale"]
        if self.rotations is not None:
            heads[:2] = _rotate(heads[:2], self.rotations[positions][..., None, :, :])
        key, value = cache.extend(layer, heads[1:])
        query = heads[0]
        if last_only and layer == config.num_layers - 1 and not config.token_shift:
            x, query = x.reshape(B, -1, config.embed_dim)[:, -1], query[:, :, -1:]  # the others have done their part
            mask = None if mask is None else mask[..., -1:, :]
        attention = _attention_weights(query, key, mask)
        gathered = (attention @ value).swapaxes(1, 2).reshape(x.shape)
        x = x + gathered @ weights[name + "attention.projection"]
        normed = self.norm(x, weights[name + "feed_forward_norm"])
        if config.token_shift:
            normed = _shift(normed, cache.newest[layer, 1], weights[name + "feed_forward_shift.mix"])
        expanded = self.activate(normed @ weights[name + "feed_forward.expand"])
        return x + expanded @ weights[name + "feed_forward.projection"], attention

    def _logits(self, x: Array) -> Array:
        """Logits (..., V) of what leaves the last layer, (..., C)."""
        rows = self.norm(x.reshape(-1, self.config.embed_dim), self.weights["final_norm"])
        return (rows @ self.weights["output_head"]).reshape(*x.shape[:-1], -1)


def _shift(x: Array, newest: Array, mix: Array) -> Array:
    """Blend each row (B * T, C) with the one before it; that of a text's first row is `newest` (B, C)."""
    rows = x.reshape(len(newest), -1, x.shape[-1])
    previous = np.concatenate([newest[:, None], rows[:, :-1]], axis=1)
    newest[:] = rows[:, -1]
    return (rows + mix * (previous - rows)).reshape(x.shape)


def _rotations(context_length: int, head_dim: int) -> Array:
    """The complex numbers that pairs of channels are multiplied by, (T, D / 2)."""
    speeds = ROTARY_BASE ** -(np.arange(0, head_dim, 2) / head_dim)
    return np.exp(1j * np.outer(np.arange(context_length), speeds)).astype(np.complex64)


def _rotate(x: Array, rotations: Array) -> Array:
    return (np.ascontiguousarray(x).view(np.complex64) * rotations).view(np.float32)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0, out=x)


def _squared_relu(x: Array) -> Array:
    return np.square(np.maximum(x, 0, out=x), out=x)


def _swiglu(x: Array) -> Array:
    gate, x = np.split(x, 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * x


def _rms_normalize(x: Array) -> Array:
    """Scale each row (..., C) to a mean square of 1."""
    return x / np.sqrt(np.vecdot(x, x)[..., None] / x.shape[-1] + NORM_EPSILON)


def _rms_norm(x: Array, weight: Array) -> Array:
    return _rms_normalize(x) * weight


def _layer_norm(x: Array, weight: Array) -> Array:
    """Centre and scale each row (R, C)."""
    C = x.shape[-1]
    x = x - np.add.reduce(x, axis=-1, keepdims=True) / C
    variance = np.vecdot(x, x)[:, None] / C
    return x / np.sqrt(variance + NORM_EPSILON) * weight


def _attention_weights(query: Array, key: Array, mask: Array | None) -> Array:
    """softmax(Q Kᵀ / √D + unseen), (B, H, T, S), for a query (B, H, T, D) and a key (B, H, S, D)."""
    scores = query @ key.swapaxes(2, 3)
    scores *= 1 / math.sqrt(query.shape[-1])
    if mask is not None:
        scores += mask
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= np.add.reduce(weights, axis=-1, keepdims=True)
    return weights
