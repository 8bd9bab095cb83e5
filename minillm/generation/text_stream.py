"""Text that grows by tokens."""

from collections.abc import Sequence

from minillm.generation.stop_strings import StopStringFilter
from minillm.tokenizer import Tokenizer


class TextStream:
    """Turns token after token into text, until a stop string appears or the model says that the text ends.

    Args:
        tokenizer: What the tokens mean.
        stop: Strings of at least one character.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._decode = tokenizer.stream()
        self._end_of_text = tokenizer.end_of_text
        self._shown = StopStringFilter(stop)

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self._shown.ended

    def add(self, token: int) -> str:
        """Take the next token, and return what can be shown now."""
        return self.finish() if token in self._end_of_text else self._shown.add(self._decode(token))

    def finish(self) -> str:
        """There are no more tokens: return what was held back."""
        return self._shown.finish()
