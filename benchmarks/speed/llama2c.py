"""Generation by llama2.c, a C program of one file, with random weights of our sizes.

It is not part of this repository. To measure it, clone https://github.com/karpathy/llama2.c, build it with
`gcc -Ofast -march=native -o run run.c -lm`, and pass the path of `run` as `--llama2c`.
"""

import re
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from generation import ALPHABET, NUM_NEW_CHARACTERS
from sizes import Sizes
from workers import Workload


def generate(sizes: Sizes, program: Path) -> Workload:
    """Generate `NUM_NEW_CHARACTERS` of one text on one core, at the speed that the program reports."""
    folder = Path(tempfile.mkdtemp())
    model, tokenizer = folder / "model.bin", folder / "tokenizer.bin"
    write_model(model, sizes)
    # each token is a score, the length of its text and the text
    tokens = b"".join(struct.pack("<fi", 0.0, 1) + character.encode() for character in ALPHABET)
    tokenizer.write_bytes(struct.pack("<i", 1) + tokens)
    command = [program, model, "-z", tokenizer, "-t", "0", "-n", str(NUM_NEW_CHARACTERS)]

    def run(n: int) -> float:
        seconds = 0.0
        for _ in range(n):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = re.search(r"achieved tok/s: ([\d.]+)", done.stderr)
            assert found, done.stderr
            seconds += NUM_NEW_CHARACTERS / float(found[1])
        return seconds

    return run


def write_model(path: Path, sizes: Sizes) -> None:
    """Write a file of random weights in the format of llama2.c; its parts are those of Llama 2.

    The hidden width of SwiGLU, 8/3 of the channels, gives as many parameters as a GPT-2 block. The weights of the final
    norm are 0, so that greedy decoding always selects token 0 and never token 1, which would end the text.
    """
    C, L, V, T = sizes.embed_dim, sizes.num_layers, sizes.vocab_size, NUM_NEW_CHARACTERS
    F = round(8 * C / 3)
    header = struct.pack("<7i", C, F, L, sizes.num_heads, sizes.num_heads, V, T)
    before = V * C + L * (C + 4 * C * C + C + 3 * C * F)  # embedding, which is also the output head, and blocks
    after = C + T * C // sizes.num_heads  # final norm, and space for rotations
    weights = np.random.default_rng(0).normal(0, 0.02, before).astype("<f4")
    path.write_bytes(header + weights.tobytes() + bytes(4 * after))
