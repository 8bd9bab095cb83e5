"""What is known of English without any network: n-grams and compressors on the same split, in bits a character.

    python benchmarks/baselines.py [--ckpt_path CKPT ...]

Each knows the training text and is asked for the validation text, and then for the plays that tinyshakespeare has
nothing of. Checkpoints are measured beside them, in consecutive windows and (`sliding`) in windows that move on by a
quarter. A compressor's figure is what the second text adds to the size of the first: it goes on learning as it reads.
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

MAX_WORD_CHARACTERS = 6  # n-gram
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "bz2": lambda data: bz2.compress(data, compresslevel=9),
    "PPMd, order 6": lambda data: pyppmd.compress(data, max_order=6, mem_size=2**28),
}


def compressed_bits(compress: Callable[[bytes], bytes], known: str, text: str) -> float:
    """Bits a character that `text` adds to the compressed size of `known`."""
    before, whole = (len(compress(part.encode())) for part in (known, known + text))
    return 8 * (whole - before) / len(text)


def ngram_bits(known: str, text: str, longest: int) -> Iterator[float]:
    """Bits a character of `text` (all but the first) under n-grams of `known`, for n = 1, 2 ... `longest`.

    Each order is blended with the one below by the method of Witten and Bell 1991 ("The zero-frequency problem"), down
    to the uniform guess; nothing is tuned: P(c | h) = (count(hc) + kinds(h) P(c | h')) / (count(h) + kinds(h)), where
    kinds(h) is how many different characters follow h, and h' is h without its first character.
    """
    alphabet = {character: number for number, character in enumerate(sorted(set(known)))}
    ids = np.array([alphabet[character] for character in known + text], dtype=np.int64)
    V, begin = len(alphabet), len(known) + 1
    probability = np.full(len(text) - 1, 1 / V)
    for n in range(1, longest + 1):
        grams = sum(ids[k : len(ids) - n + 1 + k] * V ** (n - 1 - k) for k in range(n))  # number i ends at i + n - 1
        assert isinstance(grams, np.ndarray)
        seen, asked = grams[: len(known) - n + 1], grams[begin - n + 1 :]
        kinds, counts = np.unique(seen, return_counts=True)
        contexts, starts = np.unique(kinds // V, return_index=True)
        context_counts, context_kinds = np.add.reduceat(counts, starts), np.diff([*starts, len(kinds)])
        count, total = _find(asked, kinds, counts), _find(asked // V, contexts, context_counts)
        different = _find(asked // V, contexts, context_kinds)
        blended = (count + different * probability) / np.maximum(total + different, 1)
        probability = np.where(total > 0, blended, probability)
        yield -np.log2(probability).mean().item()


def _find(keys: NDArray[np.int64], known: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values of keys, 0 where they are not known."""
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[places] == keys, values[places], 0)


@torch.no_grad()
def checkpoint_bits(ckpt_path: str, text: str) -> tuple[float, float]:
    """Bits a character of `text` (all but the first) under a trained model, in consecutive and in sliding windows."""
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
    known, texts = corpus[:split], (corpus[split:], load_text("other_plays"))
    print("| bits a character | validation text | other plays |\n|---|---|---|")
    for n, bits in enumerate(
        zip(*(ngram_bits(known, text, MAX_WORD_CHARACTERS) for text in texts), strict=True), start=1
    ):
        print(f"| {n}-gram | {bits[0]:.3f} | {bits[1]:.3f} |")
    for name, compress in COMPRESSORS.items():
        bits = [compressed_bits(compress, known, text) for text in texts]
        print(f"| {name} | {bits[0]:.3f} | {bits[1]:.3f} |")
    for path in ckpt_paths:
        plain, sliding = zip(*(checkpoint_bits(path, text) for text in texts), strict=True)
        print(f"| {path} | {plain[0]:.3f} | {plain[1]:.3f} |")
        print(f"| {path}, sliding | {sliding[0]:.3f} | {sliding[1]:.3f} |")


if __name__ == "__main__":
    main()
