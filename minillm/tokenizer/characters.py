"""One token a character."""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

_TYPOGRAPHIC = str.maketrans("‘’‚“”„–—…", "'''\"\"\"--.")


class CharTokenizer:
    """A token is a character, its id the character's place in the alphabet: in "abc", "cab" is [2, 0, 1].

    Args:
        alphabet: The known characters, each once.

    Raises:
        ValueError: The alphabet is empty or repeats a character.
    """

    STATE_TYPES: ClassVar = {"alphabet": str}
    end_of_text: ClassVar[list[int]] = []  # nothing stands between two documents

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet
        self._ids = {character: index for index, character in enumerate(alphabet)}
        if not alphabet or len(self._ids) != len(alphabet):
            raise ValueError(f"an alphabet holds at least one character and each only once, got {alphabet!r}")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The tokenizer whose alphabet is the sorted characters of a text."""
        return cls("".join(sorted(set(text))))

    def extended(self, characters: Iterable[str]) -> Self:
        """The tokenizer that knows these too: the ids of the others stay as they are."""
        return type(self)(self.alphabet + "".join(sorted(set(characters) - self._ids.keys())))

    @property
    def default_prompt(self) -> str:
        """What a text without a prompt begins with: a new line, or else the first character."""
        return "\n" if "\n" in self._ids else self.alphabet[0]

    @property
    def state(self) -> dict[str, Any]:
        """The arguments that make this tokenizer again, as plain values."""
        return {"alphabet": self.alphabet}

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return len(self.alphabet)

    def encode(self, text: str) -> list[int]:
        """Turn text into token ids.

        Raises:
            ValueError: A character is not in the alphabet; the message says which, where, and the nearest that is.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
            place = f"at position {text.index(unknown)} of {_shortened(text)!r}"
            raise ValueError(
                f"character {unknown!r} (U+{ord(unknown):04X}) {place} is not among the {self.vocab_size} "
                f"that the model knows; the nearest is {self.nearest(unknown)!r}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Turn token ids back into text."""
        return "".join(self.alphabet[index] for index in ids)

    def stream(self) -> Callable[[int], str]:
        """To be called with token after token: the text that each adds."""
        return self.alphabet.__getitem__

    def name(self, token: int) -> str:
        """What a token stands for, to be read."""
        return self.alphabet[token]

    def num_chars(self, token: int) -> int:
        """How many characters a token stands for."""
        return 1

    def handle_unknown(self, text: str, replace: bool = False) -> str:
        """The text without the characters that are not known, or with the nearest known ones in their place."""
        unknown = set(text) - self._ids.keys()
        return text.translate({ord(character): self.nearest(character) if replace else "" for character in unknown})

    def nearest(self, character: str) -> str:
        """The known character most like another: without its accent, in the other case, or next in code order."""
        plain = unicodedata.normalize("NFKD", character.translate(_TYPOGRAPHIC))[0]
        for candidate in (plain, plain.swapcase(), "'" if plain == '"' else plain):
            if candidate in self._ids:
                return candidate
        return min(self.alphabet, key=lambda known: abs(ord(known) - ord(plain)))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
