"""From text to token ids and back."""

from typing import Any

from minillm.tokenizer.byte_pairs import BytePairTokenizer
from minillm.tokenizer.characters import CharTokenizer

Tokenizer = CharTokenizer | BytePairTokenizer

__all__ = ["BytePairTokenizer", "CharTokenizer", "Tokenizer", "restored"]


def restored(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer that its `saved` settings are of.

    Raises:
        ValueError: They are of none.
    """
    for kind in (CharTokenizer, BytePairTokenizer):
        if saved.keys() == kind.SAVED.keys() and all(type(saved[name]) is kind.SAVED[name] for name in saved):
            return kind(**saved)
    raise ValueError("it has neither an alphabet nor merges")
