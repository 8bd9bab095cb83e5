"""Characters of a prompt that are not in the vocabulary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.tokenizer import Tokenizer


def known_prompt(tokenizer: Tokenizer, prompt: str, on_unknown: str) -> str:
    """Return a prompt without characters outside the vocabulary.

    Raises:
        ValueError: It has one, and `on_unknown` is `error`.
    """
    from minillm.generation.generate import encode_prompt

    if on_unknown != "error":
        return _handle_unknown(tokenizer, prompt, on_unknown)
    try:
        encode_prompt(tokenizer, prompt)
    except ValueError as error:
        raise ValueError(f"{error}; pass --on_unknown skip or replace, or another prompt") from error
    return prompt


def _handle_unknown(tokenizer: Tokenizer, prompt: str, on_unknown: str) -> str:
    """Skip or replace the characters of a prompt that are not in the vocabulary, and list them on stderr."""
    known = tokenizer.handle_unknown(prompt, replace=on_unknown == "replace")
    if known != prompt:
        unknown = sorted({character for character in prompt if not tokenizer.handle_unknown(character)})
        if on_unknown == "skip":
            action = f"skipped characters outside the vocabulary: {' '.join(map(repr, unknown))}"
        else:
            pairs = (f"{character!r} by {tokenizer.handle_unknown(character, replace=True)!r}" for character in unknown)
            action = f"replaced characters outside the vocabulary: {', '.join(pairs)}"
        print(action, file=sys.stderr)
    return known
