"""Baselines without a neural network: n-gram models and compressors on the same split, in bits per character.

    python benchmarks/baselines.py [--ckpt_path CKPT ...]

All are fitted to the training split and evaluated on the validation split and on the plays that are not in
tinyshakespeare. Checkpoints are evaluated in consecutive windows and in sliding ones, whose stride is a quarter window.
A compressor's result is the growth of its output when the text is appended to the training split; unlike the others, it
also learns from the text that it compresses.
"""

import argparse
import bz2
import lzma
import math
from collections.abc import Callable, Iterator

import numpy as np
import pyppmd
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from minillm.data.corpus import TRAIN_FRACTION, load_text
from minillm.data.windows import ConsecutiveWindows, SlidingWindows
from minillm.generation.load import load

MAX_NGRAM_LENGTH = 6
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "bz2": lambda data: bz2.compress(data, compresslevel=9),
    "PPMd, order 6": lambda data: pyppmd.compress(data, max_order=6, mem_size=2**28),
}


def compressed_bits(compress: Callable[[bytes], bytes], train: str, text: str) -> float:
    """Return the bits per character that `text` adds to the compressed size of `train`."""
    before, after = (len(compress(part.encode())) for part in (train, train + text))
    return 8 * (after - before) / len(text)


def ngram_bits(train: str, text: str, max_n: int) -> Iterator[float]:
    """Yield the bits per character of `text`, except its first, under n-gram models of `train` for n = 1 ... `max_n`.

    The models use Witten-Bell smoothing: P(c | h) = (count(hc) + T(h) P(c | h')) / (count(h) + T(h)), where T(h) is the
    number of distinct characters after h, and h' is h without its first character, down to the uniform distribution.

    Source: Witten and Bell 1991, "The zero-frequency problem".
    """
    alphabet = {character: number for number, character in enumerate(sorted(set(train)))}
    ids = np.array([alphabet[character] for character in train + text], dtype=np.int64)
    V, start = len(alphabet), len(train) + 1
    probability = np.full(len(text) - 1, 1 / V)
    for n in range(1, max_n + 1):
        grams = sum(ids[k : len(ids) - n + 1 + k] * V ** (n - 1 - k) for k in range(n))  # grams[i] ends at i + n - 1
        assert isinstance(grams, np.ndarray)
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


@torch.no_grad()
def checkpoint_bits(ckpt_path: str, text: str) -> tuple[float, float]:
    """Return the bits per character of `text`, except its first token, in consecutive and in sliding windows."""
    model, tokenizer = load(ckpt_path)
    ids, T = torch.tensor(tokenizer.encode(text)), model.config.context_length
    characters = len(text) - tokenizer.num_chars(int(ids[0]))
    consecutive, sliding = ConsecutiveWindows(ids, T, 64), SlidingWindows(ids, T, 64, T // 4)
    totals = []
    for batches in (((consecutive[n], T) for n in range(len(consecutive))), (sliding[n] for n in range(len(sliding)))):
        losses = (F.cross_entropy(model(w[:, :-1]).mT, w[:, 1:], reduction="none")[:, -n:].sum() for w, n in batches)
        totals.append(float(sum(losses)) / characters / math.log(2))
    return totals[0], totals[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt_path", nargs="*", default=[])
    ckpt_paths = parser.parse_args().ckpt_path
    corpus = load_text("tinyshakespeare")
    split = int(TRAIN_FRACTION * len(corpus))
    train, texts = corpus[:split], (corpus[split:], load_text("other_plays"))
    print("| bits per character | validation split | other plays |\n|---|---|---|")
    for n, bits in enumerate(zip(*(ngram_bits(train, text, MAX_NGRAM_LENGTH) for text in texts), strict=True), start=1):
        print(f"| {n}-gram | {bits[0]:.3f} | {bits[1]:.3f} |")
    for name, compress in COMPRESSORS.items():
        bits = [compressed_bits(compress, train, text) for text in texts]
        print(f"| {name} | {bits[0]:.3f} | {bits[1]:.3f} |")
    for path in ckpt_paths:
        consecutive, sliding = zip(*(checkpoint_bits(path, text) for text in texts), strict=True)
        print(f"| {path} | {consecutive[0]:.3f} | {consecutive[1]:.3f} |")
        print(f"| {path}, sliding | {sliding[0]:.3f} | {sliding[1]:.3f} |")


if __name__ == "__main__":
    main()
