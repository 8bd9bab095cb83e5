"""From text to token ids and back."""

from typing import Any

from minillm.tokenizer.byte_pairs import BytePairTokenizer
from minillm.tokenizer.characters import CharTokenizer

Tokenizer = CharTokenizer | BytePairTokenizer

__all__ = ["BytePairTokenizer", "CharTokenizer", "Tokenizer", "tokenizer_from_state"]


def tokenizer_from_state(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer that its `saved` settings are of.

    Raises:
        ValueError: They are of none.
    """
    for kind in (CharTokenizer, BytePairTokenizer):
        if saved.keys() == kind.STATE_TYPES.keys() and all(
            type(saved[name]) is kind.STATE_TYPES[name] for name in saved
        ):
            return kind(**saved)
    raise ValueError("it has neither an alphabet nor merges")
