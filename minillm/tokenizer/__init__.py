"""From text to token ids and back."""

from minillm.tokenizer.characters import CharTokenizer

__all__ = ["CharTokenizer"]
