"""What it costs that writing sees a quarter to the whole of a context, instead of always the whole.

    python benchmarks/context.py [CKPT]

Prints the loss of the validation characters by how many characters the model saw before them.
"""

import sys

import torch
from torch.nn import functional as F

import minillm
from minillm.data.datamodule import TextDataModule
from minillm.model import Decoder

STRIDE = 16  # from window to window: every character is predicted from several distances


@torch.no_grad()
def losses(model: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    """(T,) mean loss of the characters that are predicted from 1, 2, ... T characters."""
    windows = tokens.unfold(0, model.config.context_length + 1, STRIDE).split(256)
    parts = [F.cross_entropy(model(part[:, :-1]).mT, part[:, 1:], reduction="none") for part in windows]
    return torch.cat(parts).mean(dim=0)


def main() -> None:
    model, tokenizer = minillm.load(sys.argv[1] if len(sys.argv) > 1 else "best")
    data = TextDataModule(context_length=model.config.context_length, tokenizer=tokenizer)
    loss = losses(model, data.val.tokens[:])
    T = model.config.context_length
    for seen in sorted({2**n for n in range(T.bit_length())} & set(range(1, T + 1))):
        print(f"{seen:4} characters seen: {loss[seen - 1]:.4f}")
    print(f"writing, {T // 4} to {T} seen: {loss[T // 4 - 1 :].mean():.4f}")


if __name__ == "__main__":
    main()
