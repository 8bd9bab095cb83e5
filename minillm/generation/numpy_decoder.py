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

from minillm.generation.cache import Array, Cache

if TYPE_CHECKING:
    from minillm.model import Decoder

EPSILON = 1e-5  # nn.LayerNorm's
MATRICES = ("query_key_value", "projection", "expand", "output_head")  # nn.Linear keeps them the other way round


class NumpyDecoder:
    """A trained decoder that continues texts.

    Args:
        weights: The decoder's, float32, by the names that its `state_dict` gives them.
        settings: The arguments that the decoder was made with.
    """

    def __init__(self, weights: Mapping[str, Array], settings: Mapping[str, Any]) -> None:
        self.weights = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
        for name, weight in self.weights.items():
            if name.endswith(MATRICES):
                self.weights[name] = np.ascontiguousarray(weight.T)
        self.embed_dim, self.num_layers = settings["embed_dim"], settings["num_layers"]
        self.num_heads, self.context_length = settings["num_heads"], settings["context_length"]
        self.norm = {"layer": _layer_norm, "rms": _rms_norm}[settings["norm"]]
        self.activate = {"relu": _relu, "squared_relu": _squared_relu, "swiglu": _swiglu}[settings["activation"]]
        self.query_key_norm, self.token_shift = settings["query_key_norm"], settings["token_shift"]
        head_dim = self.embed_dim // self.num_heads
        self.turns = _turns(self.context_length, head_dim) if settings["position"] == "rotary" else None

    @classmethod
    def of(cls, model: Decoder) -> Self:
        """The same model."""
        weights = {name: weight.detach().float().cpu().numpy() for name, weight in model.state_dict().items()}
        return cls(weights, model.settings)

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
        return self._score(self._blocks(ids, cache)[:, -1])

    def look(self, ids: Array) -> tuple[Array, Array]:
        """What the decoder computes on the way, to look at.

        Args:
            ids: (B, T) token ids, at most `context_length` of each text.

        Returns:
            (B, T, V) logits for what follows each position, and (num_layers, B, H, T, T) attention weights.
        """
        weights: list[Array] = []
        return self._score(self._blocks(ids, self.new_cache(len(ids)), weights)), np.stack(weights)

    def _blocks(self, ids: Array, cache: Cache, looked: list[Array] | None = None) -> Array:
        """What leaves the last layer, (B, T, C); of the last position alone, if nobody collects attention weights."""
        B, T = ids.shape
        places, unseen = cache.places(T), cache.unseen(T)
        x = self.weights["token_embedding"][ids]
        if self.turns is None:
            x = x + self.weights["position_embedding"][places]
        x = x.reshape(B * T, self.embed_dim)
        for layer in range(self.num_layers):
            x, weights = self._block(layer, x, cache, places, unseen, last_only=looked is None)
            if looked is not None:
                looked.append(weights)
        cache.advance(T)
        return x.reshape(B, -1, self.embed_dim)

    def _block(
        self, layer: int, x: Array, cache: Cache, places: slice | Array, unseen: Array | None, last_only: bool
    ) -> tuple[Array, Array]:
        """What leaves a layer, (B * T, C), and its attention weights (B, H, T, S)."""
        weights, name, B = self.weights, f"blocks.{layer}.", cache.newest.shape[2]
        normed = self.norm(x, weights[name + "attention_norm"])
        if self.token_shift:
            normed = _shift(normed, cache.newest[layer, 0], weights[name + "attention_shift.mix"])
        heads = normed @ weights[name + "attention.query_key_value"]
        heads = heads.reshape(B, -1, 3, self.num_heads, self.embed_dim // self.num_heads).transpose(2, 0, 3, 1, 4)
        if self.query_key_norm:
            heads[:2] = _rms_normalized(heads[:2]) * weights[name + "attention.scale"]
        if self.turns is not None:
            heads[:2] = _rotated(heads[:2], self.turns[places][..., None, :, :])
        key, value = cache.extend(layer, heads[1:])
        query = heads[0]
        if last_only and layer == self.num_layers - 1 and not self.token_shift:
            x, query = x.reshape(B, -1, self.embed_dim)[:, -1], query[:, :, -1:]  # the earlier are not looked at again
            unseen = None if unseen is None else unseen[..., -1:, :]
        attention = _attention_weights(query, key, unseen)
        gathered = (attention @ value).swapaxes(1, 2).reshape(x.shape)
        x = x + gathered @ weights[name + "attention.projection"]
        normed = self.norm(x, weights[name + "feed_forward_norm"])
        if self.token_shift:
            normed = _shift(normed, cache.newest[layer, 1], weights[name + "feed_forward_shift.mix"])
        expanded = self.activate(normed @ weights[name + "feed_forward.expand"])
        return x + expanded @ weights[name + "feed_forward.projection"], attention

    def _score(self, x: Array) -> Array:
        """Logits (..., V) of what leaves the last layer, (..., C)."""
        rows = self.norm(x.reshape(-1, self.embed_dim), self.weights["final_norm"])
        return (rows @ self.weights["output_head"]).reshape(*x.shape[:-1], -1)


def weight_shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a decoder's weights, by their names.

    Args:
        settings: The arguments that the decoder is made with.
    """
    V, C = settings["vocab_size"], settings["embed_dim"]
    width, expansions = (8 * -(-C // 3), 2) if settings["activation"] == "swiglu" else (4 * C, 1)
    block = {
        "attention_norm.weight": (C,),
        "attention.query_key_value.weight": (3 * C, C),
        "attention.projection.weight": (C, C),
        "feed_forward_norm.weight": (C,),
        "feed_forward.expand.weight": (expansions * width, C),
        "feed_forward.projection.weight": (C, width),
    }
    if settings["query_key_norm"]:
        block["attention.scale"] = (settings["num_heads"], 1, 1)
    if settings["token_shift"]:
        block |= {"attention_shift.mix": (C,), "feed_forward_shift.mix": (C,)}
    shapes = {"token_embedding.weight": (V, C), "final_norm.weight": (C,), "output_head.weight": (V, C)}
    if settings["position"] == "learned":
        shapes["position_embedding.weight"] = (settings["context_length"], C)
    blocks = range(settings["num_layers"])
    return shapes | {f"blocks.{layer}.{name}": shape for layer in blocks for name, shape in block.items()}


def _shift(x: Array, newest: Array, mix: Array) -> Array:
    """Blend each row (B * T, C) with the one before it; that of a text's first row is `newest` (B, C)."""
    rows = x.reshape(len(newest), -1, x.shape[-1])
    previous = np.concatenate([newest[:, None], rows[:, :-1]], axis=1)
    newest[:] = rows[:, -1]
    return (rows + mix * (previous - rows)).reshape(x.shape)


def _turns(context_length: int, head_dim: int) -> Array:
    """The complex numbers that pairs of channels are multiplied by, (T, D / 2)."""
    speeds = 10_000.0 ** -(np.arange(0, head_dim, 2) / head_dim)
    return np.exp(1j * np.outer(np.arange(context_length), speeds)).astype(np.complex64)


def _rotated(x: Array, turns: Array) -> Array:
    return (np.ascontiguousarray(x).view(np.complex64) * turns).view(np.float32)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0, out=x)


def _squared_relu(x: Array) -> Array:
    return np.square(np.maximum(x, 0, out=x), out=x)


def _swiglu(x: Array) -> Array:
    gate, x = np.split(x, 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * x


def _rms_normalized(x: Array) -> Array:
    """Scale each row (..., C) to a mean square of 1."""
    return x / np.sqrt(np.vecdot(x, x)[..., None] / x.shape[-1] + EPSILON)


def _rms_norm(x: Array, weight: Array) -> Array:
    return _rms_normalized(x) * weight


def _layer_norm(x: Array, weight: Array) -> Array:
    """Centre and scale each row (R, C)."""
    C = x.shape[-1]
    x = x - np.add.reduce(x, axis=-1, keepdims=True) / C
    variance = np.vecdot(x, x)[:, None] / C
    return x / np.sqrt(variance + EPSILON) * weight


def _attention_weights(query: Array, key: Array, unseen: Array | None) -> Array:
    """softmax(Q Kᵀ / √D + unseen), (B, H, T, S), for a query (B, H, T, D) and a key (B, H, S, D)."""
    scores = query @ key.swapaxes(2, 3)
    scores *= 1 / math.sqrt(query.shape[-1])
    if unseen is not None:
        scores += unseen
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= np.add.reduce(weights, axis=-1, keepdims=True)
    return weights
