"""NumPy inference with a KV cache.

For one token of one sequence, PyTorch spends most of the time on overhead around the matrix products. NumPy has less
overhead, and is imported in a tenth of a second. `model/decoder.py` is the reference; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self

import numpy as np

from minillm.config import NORM_EPSILON, ROTARY_BASE, ModelConfig
from minillm.generation.linear import Linear, in_one_allocation
from minillm.generation.numpy_kv_cache import Array, NumpyKVCache, NumpyRaggedKVCache
from minillm.generation.threads import num_parameters

if TYPE_CHECKING:
    from minillm.model import Decoder

LINEAR_LAYERS = ("query_key_value", "projection", "expand", "output_head")
MIN_UNCACHED = 4_000_000  # parameters of a model that is read from memory at every step, rather than from a cache


class NumpyDecoder:
    """Trained decoder for inference in NumPy.

    Args:
        weights: float32 weights by their names in the `state_dict` of `Decoder`.
        config: Architecture of the decoder.
    """

    def __init__(self, weights: Mapping[str, Array], config: ModelConfig) -> None:
        self.config = config
        weights = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
        linear = {name: weight for name, weight in weights.items() if name.endswith(LINEAR_LAYERS)}
        self.weights = in_one_allocation({name: weight for name, weight in weights.items() if name not in linear})
        by_input = in_one_allocation({name: weight.T for name, weight in linear.items()})
        by_output = in_one_allocation(linear) if num_parameters(config) >= MIN_UNCACHED else {}
        self.linear = {name: Linear(weight, by_output.get(name)) for name, weight in by_input.items()}
        self.norm = {"layer": _layer_norm, "rms": _rms_norm}[config.norm]
        self.activate = {"relu": _relu, "squared_relu": _squared_relu, "swiglu": _swiglu}[config.activation]
        self.rotations = _rotations(config.context_length, config.head_dim) if config.position == "rotary" else None

    @classmethod
    def from_model(cls, model: Decoder) -> Self:
        """Create a NumPy decoder with a copy of the weights of a PyTorch decoder."""
        weights = {name: weight.detach().float().cpu().numpy() for name, weight in model.state_dict().items()}
        return cls(weights, model.config)

    def new_cache(self, batch_size: int) -> NumpyKVCache:
        """Create an empty KV cache for `batch_size` sequences."""
        config = self.config
        return NumpyKVCache(config.num_layers, batch_size, config.num_heads, config.context_length, config.head_dim)

    def new_ragged_cache(self, capacity: int) -> NumpyRaggedKVCache:
        """Create an empty KV cache to which up to `capacity` sequences of different lengths can be appended."""
        return NumpyRaggedKVCache(self.new_cache(1), capacity)

    def __call__(self, ids: Array, cache: NumpyKVCache) -> Array:
        """Compute the logits of the next token, and add the new positions to the cache.

        Args:
            ids: (B, T) token ids that follow those in the cache; together at most `config.context_length` positions.
            cache: KV cache of the B sequences, updated in place.

        Returns:
            (B, V) float32 logits of the token after the last position.
        """
        return self._logits(self._hidden_states(ids, cache)[:, -1])

    def logits_and_attention(self, ids: Array) -> tuple[Array, Array]:
        """Compute the logits and attention weights of all positions.

        Args:
            ids: (B, T) token ids, T at most `config.context_length`.

        Returns:
            (B, T, V) logits of the token after each position, and (num_layers, B, H, T, T) attention weights.
        """
        trace: list[tuple[Array, Array]] = []
        return self._logits(self._hidden_states(ids, self.new_cache(len(ids)), trace)), np.stack([w for _, w in trace])

    def logit_lens(self, ids: Array) -> Iterator[Array]:
        """Compute the logits that the final norm and the output head make of the residual stream after each block.

        Args:
            ids: (B, T) token ids, T at most `config.context_length`.

        Returns:
            An iterator over (B, T, V) logits of the token after each position; the last ones are those of the model.

        Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
        """
        trace: list[tuple[Array, Array]] = []
        self._hidden_states(ids, self.new_cache(len(ids)), trace)
        return (self._logits(x) for x, _ in trace)

    def _hidden_states(self, ids: Array, cache: NumpyKVCache, trace: list[tuple[Array, Array]] | None = None) -> Array:
        """Run all layers and return their output (B, T, C).

        If `trace` is a list, append each layer's output and attention weights to it; if None, the output may hold only
        the last position.
        """
        (B, T), C = ids.shape, self.config.embed_dim
        positions, mask = cache.positions(T), cache.mask(T)
        x = self.weights["token_embedding"][ids]
        if self.rotations is None:
            x = x + self.weights["position_embedding"][positions]
        x = x.reshape(B * T, C)
        for layer in range(self.config.num_layers):
            x, attention = self._block(layer, x, cache, positions, mask, last_only=trace is None)
            if trace is not None:
                trace.append((x.reshape(B, T, C), attention))
        cache.advance(T)
        return x.reshape(B, -1, C)

    def _block(
        self, layer: int, x: Array, cache: NumpyKVCache, positions: slice | Array, mask: Array | None, last_only: bool
    ) -> tuple[Array, Array]:
        """Run a layer on x (B * T, C), and return its output and its attention weights (B, H, T, S)."""
        config, weights, linear, name = self.config, self.weights, self.linear, f"blocks.{layer}."
        B = cache.shift_state.shape[2]
        normed = self.norm(x, weights[name + "attention_norm"])
        if config.token_shift:
            normed = _shift(normed, cache.shift_state[layer, 0], weights[name + "attention_shift.mix"])
        heads = linear[name + "attention.query_key_value"](normed)
        heads = heads.reshape(B, -1, 3, config.num_heads, config.head_dim).transpose(2, 0, 3, 1, 4)
        if config.query_key_norm:
            heads[:2] = _rms_normalize(heads[:2]) * weights[name + "attention.scale"]
        if self.rotations is not None:
            heads[:2] = _rotate(heads[:2], self.rotations[positions][..., None, :, :])
        key, value = cache.extend(layer, heads[1:])
        query = heads[0]
        if last_only and layer == config.num_layers - 1 and not config.token_shift:
            # only the last position is needed; the others have contributed their keys and values
            x, query = x.reshape(B, -1, config.embed_dim)[:, -1], query[:, :, -1:]
            mask = None if mask is None else mask[..., -1:, :]
        attention = _attention_weights(query, key, mask)
        attended = (attention @ value).swapaxes(1, 2).reshape(x.shape)
        x = x + linear[name + "attention.projection"](attended)
        normed = self.norm(x, weights[name + "feed_forward_norm"])
        if config.token_shift:
            normed = _shift(normed, cache.shift_state[layer, 1], weights[name + "feed_forward_shift.mix"])
        expanded = self.activate(linear[name + "feed_forward.expand"](normed))
        return x + linear[name + "feed_forward.projection"](expanded), attention

    def _logits(self, x: Array) -> Array:
        """Apply the final norm and the output head: (..., C) to logits (..., V)."""
        rows = self.norm(x.reshape(-1, self.config.embed_dim), self.weights["final_norm"])
        return self.linear["output_head"](rows).reshape(*x.shape[:-1], -1)


def _shift(x: Array, state: Array, mix: Array) -> Array:
    """Token shift: blend each row of x (B * T, C) with the previous row; `state` (B, C) precedes the first.

    The state is updated in place to the last row of each sequence.
    """
    rows = x.reshape(len(state), -1, x.shape[-1])
    previous = np.concatenate([state[:, None], rows[:, :-1]], axis=1)
    state[:] = rows[:, -1]
    return (rows + mix * (previous - rows)).reshape(x.shape)


def _rotations(context_length: int, head_dim: int) -> Array:
    """Return the rotary position embedding as complex factors for pairs of channels, (T, D / 2)."""
    frequencies = ROTARY_BASE ** -(np.arange(0, head_dim, 2) / head_dim)
    return np.exp(1j * np.outer(np.arange(context_length), frequencies)).astype(np.complex64)


def _rotate(x: Array, rotations: Array) -> Array:
    return (np.ascontiguousarray(x).view(np.complex64) * rotations).view(np.float32)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0, out=x)


def _squared_relu(x: Array) -> Array:
    return np.square(np.maximum(x, 0, out=x), out=x)


def _swiglu(x: Array) -> Array:
    half = x.shape[-1] // 2
    gate, x = x[..., :half], x[..., half:]
    return gate / (1 + np.exp(-gate)) * x


def _rms_normalize(x: Array) -> Array:
    """Scale each row (..., C) to a mean square of 1."""
    return x / np.sqrt(np.vecdot(x, x)[..., None] / x.shape[-1] + NORM_EPSILON)


def _rms_norm(x: Array, weight: Array) -> Array:
    return _rms_normalize(x) * weight


def _layer_norm(x: Array, weight: Array) -> Array:
    """Normalize each row (R, C) to mean 0 and variance 1, then scale it by a weight (C,)."""
    C = x.shape[-1]
    x = x - np.add.reduce(x, axis=-1, keepdims=True) / C
    variance = np.vecdot(x, x)[:, None] / C
    return x / np.sqrt(variance + NORM_EPSILON) * weight


def _attention_weights(query: Array, key: Array, mask: Array | None) -> Array:
    """Return softmax(Q Kᵀ / √D + mask), (B, H, T, S), for queries (B, H, T, D) and keys (B, H, S, D)."""
    scores = query @ key.swapaxes(2, 3)
    scores *= 1 / math.sqrt(query.shape[-1])
    if mask is not None:
        scores += mask
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= np.add.reduce(weights, axis=-1, keepdims=True)
    return weights
