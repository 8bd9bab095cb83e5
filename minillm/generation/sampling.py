"""From a model's scores to the next token: filters on the probabilities, then a choice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sample(
    logits: Array, uniform: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Choose the next token of each text.

    Args:
        logits: (B, V) scores.
        uniform: (B,) random numbers from [0, 1), which decide; the caller owns their generator.
        temperature: Divides the logits; below 1 the likely becomes likelier, 0 always takes the likeliest.
        top_k: Only the `top_k` likeliest tokens (and ties with the last of them) can be chosen.
        top_p: Only the likeliest tokens that together reach this probability can be chosen.

    Returns:
        (B,) token ids.
    """
    if temperature == 0:
        return logits.argmax(axis=-1)
    cumulative = np.add.accumulate(_weights(logits, temperature, top_k, top_p), axis=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    return (cumulative <= target).sum(axis=-1)


def probabilities(
    logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """How likely `sample` is to choose each token.

    Args:
        logits: (B, V) scores.
        temperature: As for `sample`, and so the others.
        top_k: Likewise.
        top_p: Likewise.

    Returns:
        (B, V) float64, rows that sum to 1.
    """
    if temperature == 0:
        return np.eye(logits.shape[-1])[logits.argmax(axis=-1)]
    weights = _weights(logits, temperature, top_k, top_p)
    return weights / weights.sum(axis=-1, keepdims=True)


def _weights(logits: Array, temperature: float, top_k: int | None, top_p: float | None) -> Array:
    """The softmax of what is left, but for its divisor."""
    logits = logits.astype(np.float64)
    logits -= np.maximum.reduce(logits, axis=-1, keepdims=True)  # the likeliest is 0: nothing overflows
    with np.errstate(over="ignore"):  # at the smallest temperatures all others are at minus infinity
        weights = np.exp(logits / temperature)
    if top_k is not None:
        weights = keep_top_k(weights, top_k)
    if top_p is not None:
        weights = keep_top_p(weights, top_p)
    return weights


def keep_top_k(weights: Array, k: int) -> Array:
    """Set all but the k largest weights of each row (B, V), and ties with the k-th, to 0.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation".
    """
    smaller = max(weights.shape[-1] - k, 0)  # as many as are left out
    return weights * (weights >= np.partition(weights, smaller, axis=-1)[:, smaller, None])


def keep_top_p(weights: Array, p: float) -> Array:
    """Keep the fewest of the largest weights of each row (B, V) that make up at least the share p of all.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration" (nucleus sampling).
    """
    order = np.argsort(-weights, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=-1)
    before = np.add.accumulate(ordered, axis=-1) - ordered  # what the larger ones hold already
    kept = np.zeros_like(weights)
    total = ordered.sum(axis=-1, keepdims=True)
    np.put_along_axis(kept, order, np.where(before < p * total, ordered, 0), axis=-1)
    return kept
