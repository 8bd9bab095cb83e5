"""Characters of prompts and stop strings that are not in the vocabulary."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.tokenizer import Tokenizer


def known_prompt(tokenizer: Tokenizer, prompt: str, on_unknown: str) -> str:
    """Return a prompt in the form of the training text, without characters outside the vocabulary.

    Raises:
        ValueError: It has one, and `on_unknown` is `error`.
    """
    from minillm.tokenizer.prompts import handle_unknown, normalize_prompt

    if on_unknown == "error":
        text = normalize_prompt(prompt, tokenizer)
        try:
            tokenizer.encode(text)
        except ValueError as error:
            raise ValueError(f"{error}; pass --on_unknown skip or replace, or another prompt") from error
        return text
    known, replaced = handle_unknown(prompt, tokenizer, replace=on_unknown == "replace")
    skipped = [repr(character) for character, replacement in replaced.items() if not replacement]
    pairs = [f"{character!r} by {replacement!r}" for character, replacement in replaced.items() if replacement]
    for action, characters in (("skipped", sorted(skipped)), ("replaced", sorted(pairs))):
        if characters:
            print(f"{action} characters outside the vocabulary: {', '.join(characters)}", file=sys.stderr)
    return known


def report_impossible_stops(tokenizer: Tokenizer, stops: Iterable[str]) -> None:
    """Print a line for each stop string that has characters outside the vocabulary, so that no text contains it."""
    from minillm.tokenizer.prompts import handle_unknown

    for stop in stops:
        _, unknown = handle_unknown(stop, tokenizer)
        if unknown:
            characters = ", ".join(map(repr, unknown))
            print(f"stop string {stop!r} never occurs: not in the vocabulary: {characters}", file=sys.stderr)
