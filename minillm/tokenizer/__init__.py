"""Tokenizers: convert text to token ids and back."""

from typing import Any

from minillm.tokenizer.byte_pairs import BytePairTokenizer
from minillm.tokenizer.characters import CharTokenizer

Tokenizer = CharTokenizer | BytePairTokenizer

__all__ = ["BytePairTokenizer", "CharTokenizer", "Tokenizer", "tokenizer_from_state"]


def tokenizer_from_state(state: dict[str, Any]) -> Tokenizer:
    """Build a tokenizer from its saved state.

    Args:
        state: Value of the tokenizer's `state` property.

    Raises:
        ValueError: The state is not one of a known tokenizer.
    """
    for tokenizer_class in (CharTokenizer, BytePairTokenizer):
        required, types = (
            tokenizer_class.STATE_TYPES,
            tokenizer_class.STATE_TYPES | tokenizer_class.OPTIONAL_STATE_TYPES,
        )
        has_types = state.keys() <= types.keys() and all(type(state[name]) is types[name] for name in state)
        if has_types and state.keys() >= required.keys():
            return tokenizer_class(**state)
    raise ValueError("the tokenizer has neither an alphabet nor merges")
