"""Advice about a text: whether it is long enough, and which configuration to begin with."""

from __future__ import annotations

import shlex

SMALL_TEXT_CHARS = 100_000  # of a training split; a shorter one is soon memorized
LONG_TEXT_CHARS = 5_000_000
MIN_VALIDATION_TOKENS = 1_000


def text_advice(num_train_chars: int, num_val_tokens: int) -> list[str]:
    """Return advice about training on a text from scratch, in one line each.

    Args:
        num_train_chars: Length of the training split in characters.
        num_val_tokens: Length of the validation split in tokens.
    """
    advice: list[str] = []
    if num_train_chars < SMALL_TEXT_CHARS:
        advice.append(
            f"a training text of {num_train_chars:,} characters is soon memorized: train on a longer text first"
            " (minillm fit), then fine-tune on this one with --config finetune --init_from best"
        )
    if num_val_tokens < MIN_VALIDATION_TOKENS:
        advice.append(
            f"val_loss means little with a validation split of {num_val_tokens:,} tokens: use a longer text, or another"
            " one with --data.val_corpus"
        )
    return advice


def first_command(corpus: str, num_train_chars: int, flags: list[str]) -> str:
    """Return the command to begin with for a training split of some length, with flags of its format."""
    text = ["--data.corpus", corpus, *flags]
    if num_train_chars < SMALL_TEXT_CHARS:
        return shlex.join(["minillm", "fit", "--config", "finetune", "--init_from", "best", *text])
    config = "best-small" if num_train_chars < LONG_TEXT_CHARS else "laptop"
    return shlex.join(["minillm", "fit", "--config", config, *text])
