"""Character-level tokenizer: one token per character."""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

_TYPOGRAPHIC_TO_ASCII = str.maketrans("‘’‚“”„–—…", "'''\"\"\"--.")


class CharTokenizer:
    """Character-level tokenizer; an id is an index into the alphabet: with "abc", "cab" is [2, 0, 1].

    Args:
        alphabet: The vocabulary: distinct characters, in the order of their ids.

    Raises:
        ValueError: The alphabet is empty or repeats a character.
    """

    STATE_TYPES: ClassVar = {"alphabet": str}
    end_of_text: ClassVar[list[int]] = []  # no token separates documents

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet
        self._ids = {character: index for index, character in enumerate(alphabet)}
        if not alphabet or len(self._ids) != len(alphabet):
            raise ValueError(f"alphabet must be non-empty and must not repeat a character, got {alphabet!r}")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Build a tokenizer whose alphabet is the sorted set of characters of a text."""
        return cls("".join(sorted(set(text))))

    def extended(self, characters: Iterable[str]) -> Self:
        """Return a tokenizer that also knows these characters; existing ids do not change."""
        return type(self)(self.alphabet + "".join(sorted(set(characters) - self._ids.keys())))

    @property
    def default_prompt(self) -> str:
        """Prompt if none is given: a newline, or the first character of an alphabet without one."""
        return "\n" if "\n" in self._ids else self.alphabet[0]

    @property
    def state(self) -> dict[str, Any]:
        """Constructor arguments as plain values, for saving."""
        return {"alphabet": self.alphabet}

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
        return len(self.alphabet)

    def encode(self, text: str) -> list[int]:
        """Convert text to token ids.

        Raises:
            ValueError: A character is not in the alphabet. The message gives its position and the nearest known one.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
            position = f"at position {text.index(unknown)} of {_shortened(text)!r}"
            raise ValueError(
                f"character {unknown!r} (U+{ord(unknown):04X}) {position} is not in the vocabulary of "
                f"{self.vocab_size} characters; the nearest is {self.nearest(unknown)!r}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Convert token ids to text."""
        return "".join(self.alphabet[index] for index in ids)

    def incremental_decoder(self) -> Callable[[int], str]:
        """Return a function that decodes a sequence one token per call."""
        return self.alphabet.__getitem__

    def id_to_token(self, token: int) -> str:
        """Return a token in readable form: its character."""
        return self.alphabet[token]

    def num_chars(self, token: int) -> int:
        """Return the number of characters of a token, which is 1."""
        return 1

    def handle_unknown(self, text: str, replace: bool = False) -> str:
        """Remove characters that are not in the alphabet, or replace each by the nearest one that is."""
        unknown = set(text) - self._ids.keys()
        return text.translate({ord(character): self.nearest(character) if replace else "" for character in unknown})

    def nearest(self, character: str) -> str:
        """Return the most similar known character: without accent, in the other case, or the nearest code point."""
        plain = unicodedata.normalize("NFKD", character.translate(_TYPOGRAPHIC_TO_ASCII))[0]
        for candidate in (plain, plain.swapcase(), "'" if plain == '"' else plain):
            if candidate in self._ids:
                return candidate
        return min(self.alphabet, key=lambda known: abs(ord(known) - ord(plain)))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
