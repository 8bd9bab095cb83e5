"""Validation loss by the number of preceding characters that the model attends to.

    python benchmarks/context.py [CKPT]

Generation attends to between a quarter of the context length and all of it; the last line is the mean loss over this
range.
"""

import sys

import torch
from torch.nn import functional as F

import minillm
from minillm.data.datamodule import TextDataModule
from minillm.model import Decoder

STRIDE = 16  # between windows, so that each character is predicted from several context lengths


@torch.no_grad()
def losses(model: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    """Return the (T,) mean losses of predictions from 1, 2, ... T preceding characters."""
    windows = tokens.unfold(0, model.config.context_length + 1, STRIDE).split(256)
    parts = [F.cross_entropy(model(part[:, :-1]).mT, part[:, 1:], reduction="none") for part in windows]
    return torch.cat(parts).mean(dim=0)


def main() -> None:
    model, tokenizer = minillm.load(sys.argv[1] if len(sys.argv) > 1 else "best")
    data = TextDataModule(context_length=model.config.context_length, tokenizer=tokenizer)
    loss = losses(model, data.val.tokens[:])
    T = model.config.context_length
    for length in sorted({2**n for n in range(T.bit_length())} & set(range(1, T + 1))):
        print(f"{length:4} preceding characters: {loss[length - 1]:.4f}")
    print(f"generation, {T // 4} to {T} preceding characters: {loss[T // 4 - 1 :].mean():.4f}")


if __name__ == "__main__":
    main()
