"""Sampling of the next token: temperature, top-k and nucleus (top-p) filters, then inverse transform sampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sample(
    logits: Array, uniform: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Sample the next token of each sequence.

    Args:
        logits: (B, V) logits.
        uniform: (B,) random numbers from [0, 1), which determine the result.
        temperature: Divides the logits; below 1, likely tokens become likelier; 0 always selects the most likely.
        top_k: Keep only this many most likely tokens, and ties with the last of them.
        top_p: Keep only the smallest set of most likely tokens whose total probability reaches this value.

    Returns:
        (B,) token ids.
    """
    if temperature == 0:
        return logits.argmax(axis=-1)
    cumulative = np.add.accumulate(_unnormalized_probabilities(logits, temperature, top_k, top_p), axis=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    return (cumulative <= target).sum(axis=-1)


def probabilities(
    logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Return the probability with which `sample` selects each token.

    Args:
        logits: (B, V) logits.
        temperature, top_k, top_p: As for `sample`.

    Returns:
        (B, V) float64; each row sums to 1.
    """
    if temperature == 0:
        return np.eye(logits.shape[-1])[logits.argmax(axis=-1)]
    weights = _unnormalized_probabilities(logits, temperature, top_k, top_p)
    return weights / weights.sum(axis=-1, keepdims=True)


def _unnormalized_probabilities(logits: Array, temperature: float, top_k: int | None, top_p: float | None) -> Array:
    """Return the softmax after temperature and filters, without its normalization, as (B, V) float64."""
    logits = logits.astype(np.float64)
    logits -= np.maximum.reduce(logits, axis=-1, keepdims=True)  # the maximum is 0, so that exp does not overflow
    with np.errstate(over="ignore"):  # at the smallest temperatures, all others become -inf
        weights = np.exp(logits / temperature)
    if top_k is not None:
        weights = keep_top_k(weights, top_k)
    if top_p is not None:
        weights = keep_top_p(weights, top_p)
    return weights


def keep_top_k(weights: Array, k: int) -> Array:
    """Keep the k largest weights of each row (B, V), and ties with the k-th; set the others to 0.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation".
    """
    num_removed = max(weights.shape[-1] - k, 0)
    return weights * (weights >= np.partition(weights, num_removed, axis=-1)[:, num_removed, None])


def keep_top_p(weights: Array, p: float) -> Array:
    """Keep the fewest largest weights of each row (B, V) that sum to at least p times the total; set the others to 0.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration" (nucleus sampling).
    """
    order = np.argsort(-weights, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=-1)
    sum_before = np.add.accumulate(ordered, axis=-1) - ordered  # of the larger weights
    kept = np.zeros_like(weights)
    total = ordered.sum(axis=-1, keepdims=True)
    np.put_along_axis(kept, order, np.where(sum_before < p * total, ordered, 0), axis=-1)
    return kept
