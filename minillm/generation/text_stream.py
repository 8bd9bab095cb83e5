"""Incremental detokenizer with stop strings."""

from collections.abc import Sequence

from minillm.generation.stop_strings import StopStringFilter
from minillm.tokenizer import Tokenizer
from minillm.tokenizer.prompts import normalize_prompt


class TextStream:
    """Incremental detokenizer: text from one token at a time, up to a stop string or the end-of-text token.

    Args:
        tokenizer: The tokenizer of the model.
        stop: Stop strings, none of them empty.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._decode = tokenizer.incremental_decoder()
        self._end_of_text = tokenizer.end_of_text
        self._stop_filter = StopStringFilter([normalize_prompt(string, tokenizer) for string in stop])

    @property
    def ended(self) -> bool:
        """Whether the text has ended."""
        return self._stop_filter.ended

    def add(self, token: int) -> str:
        """Add the next token, and return the text that is safe to emit."""
        return self.finish() if token in self._end_of_text else self._stop_filter.add(self._decode(token))

    def finish(self) -> str:
        """End the text after its last token, and return the text held back."""
        return self._stop_filter.finish()
