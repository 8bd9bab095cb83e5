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
from collections.abc import Callable

import pyppmd
import torch
from torch.nn import functional as F

from minillm.data.corpus import TRAIN_FRACTION, load_text
from minillm.data.ngrams import compressed_bits, ngram_bits
from minillm.data.windows import ConsecutiveWindows, SlidingWindows
from minillm.generation.load import load

MAX_NGRAM_LENGTH = 6
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "bz2": lambda data: bz2.compress(data, compresslevel=9),
    "PPMd, order 6": lambda data: pyppmd.compress(data, max_order=6, mem_size=2**28),
}


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
