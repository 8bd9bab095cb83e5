"""Baselines without a neural network: n-gram models and compressors, in bits per character."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray


def compressed_bits(compress: Callable[[bytes], bytes], train: str, text: str) -> float:
    """Return the bits per character that `text` adds to the compressed size of `train`."""
    before, after = (len(compress(part.encode())) for part in (train, train + text))
    return 8 * (after - before) / len(text)


def ngram_bits(train: str, text: str, max_n: int) -> Iterator[float]:
    """Yield the bits per character of `text`, except its first, under n-gram models of `train` for n = 1 ... `max_n`.

    The models use Witten-Bell smoothing: P(c | h) = (count(hc) + T(h) P(c | h')) / (count(h) + T(h)), where T(h) is the
    number of distinct characters after h, and h' is h without its first character, down to the uniform distribution.

    Args:
        train: Text that the n-grams are counted in.
        text: Text to evaluate, of at least two characters.
        max_n: Length of the longest n-grams.

    Source: Witten and Bell 1991, "The zero-frequency problem".
    """
    alphabet = {character: number for number, character in enumerate(sorted({*train, *text}))}
    ids = np.array([alphabet[character] for character in train + text], dtype=np.int64)
    V, start = len(alphabet), len(train) + 1
    probability = np.full(len(text) - 1, 1 / V)
    for n in range(1, max_n + 1):
        grams = np.zeros(len(ids) - n + 1, np.int64)  # grams[i] ends at i + n - 1
        for k in range(n):
            grams += ids[k : len(ids) - n + 1 + k] * V ** (n - 1 - k)
        train_grams, text_grams = grams[: len(train) - n + 1], grams[start - n + 1 :]
        distinct, counts = np.unique(train_grams, return_counts=True)
        contexts, starts = np.unique(distinct // V, return_index=True)
        context_counts, context_types = np.add.reduceat(counts, starts), np.diff([*starts, len(distinct)])
        count, total = _look_up(text_grams, distinct, counts), _look_up(text_grams // V, contexts, context_counts)
        types = _look_up(text_grams // V, contexts, context_types)
        smoothed = (count + types * probability) / np.maximum(total + types, 1)
        probability = np.where(total > 0, smoothed, probability)
        yield -np.log2(probability).mean().item()


def _look_up(keys: NDArray[np.int64], table: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the values of keys in a sorted table, 0 for those that are not in it."""
    indices = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[indices] == keys, values[indices], 0)
