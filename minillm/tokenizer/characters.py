"""Character-level tokenizer: one token per character."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

from minillm.tokenizer.byte_pairs import END_OF_TEXT
from minillm.tokenizer.prompts import MAX_CLUSTER_CHARS, NormalForm, check_normal_form, cluster_at, similar


class CharTokenizer:
    """Character-level tokenizer; an id is an index into the alphabet: with "abc", "cab" is [2, 0, 1].

    A tokenizer of documents also has an end-of-text token, which `encode` never returns and which decodes to the empty
    string.

    Args:
        alphabet: The vocabulary: distinct characters, in the order of their ids.
        end_of_text_id: Id of the end-of-text token; None if there are no documents. The characters from this position
            of the alphabet on have an id that is greater by one.
        normal_form: Unicode normalization form of the training text, `NFC` or `NFD`; None if it does not have one.

    Raises:
        ValueError: The alphabet is empty or repeats a character, or another argument is wrong.
    """

    STATE_TYPES: ClassVar = {"alphabet": str}
    OPTIONAL_STATE_TYPES: ClassVar = {"end_of_text_id": int, "normal_form": str}

    def __init__(self, alphabet: str, end_of_text_id: int | None = None, normal_form: NormalForm | None = None) -> None:
        self.alphabet, self.end_of_text_id = alphabet, end_of_text_id
        self.normal_form: NormalForm | None = normal_form
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise ValueError(f"alphabet must be non-empty and must not repeat a character, got {alphabet!r}")
        if end_of_text_id is not None and not 0 <= end_of_text_id <= len(alphabet):
            raise ValueError(f"end_of_text_id must be from 0 to {len(alphabet)}, got {end_of_text_id}")
        check_normal_form(normal_form)
        self._tokens = [*alphabet]
        if end_of_text_id is not None:
            self._tokens.insert(end_of_text_id, "")
        self._ids = {character: index for index, character in enumerate(self._tokens) if character}

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Build a tokenizer whose alphabet is the sorted set of characters of a text."""
        return cls("".join(sorted(set(text))))

    def extended(self, characters: Iterable[str]) -> Self:
        """Return a tokenizer that also knows these characters; existing ids do not change."""
        added = "".join(sorted(set(characters) - self._ids.keys()))
        return type(self)(self.alphabet + added, self.end_of_text_id, self.normal_form)

    def with_documents(self) -> Self:
        """Return a tokenizer with an end-of-text token, the last one if it is new; existing ids do not change."""
        end = len(self.alphabet) if self.end_of_text_id is None else self.end_of_text_id
        return type(self)(self.alphabet, end, self.normal_form)

    @property
    def default_prompt(self) -> str:
        """Prompt if none is given: empty with documents, else a newline, or the first character if it is unknown."""
        if self.start_of_text:
            return ""
        return "\n" if "\n" in self._ids else self.alphabet[0]

    @property
    def end_of_text(self) -> list[int]:
        """Token id that ends a document, as a list; empty if there is no such token."""
        return [] if self.end_of_text_id is None else [self.end_of_text_id]

    @property
    def start_of_text(self) -> list[int]:
        """Token ids before a document: the end of the one before it; empty if there are no documents."""
        return self.end_of_text

    @property
    def state(self) -> dict[str, Any]:
        """Constructor arguments as plain values, for saving."""
        optional = {"end_of_text_id": self.end_of_text_id, "normal_form": self.normal_form}
        return {"alphabet": self.alphabet, **{name: value for name, value in optional.items() if value is not None}}

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """Convert text to token ids.

        Raises:
            ValueError: A character is not in the alphabet. The message gives its position and a similar one.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            index = text.index(error.args[0])
            start = max(index - MAX_CLUSTER_CHARS, 0)
            unknown = cluster_at(text[start : index + MAX_CLUSTER_CHARS], index - start)
            position = f"at position {index} of {_shortened(text)!r}"
            near = similar(unknown, self)
            hint = f"; the nearest is {near!r}" if near else ""
            codes = " ".join(f"U+{ord(character):04X}" for character in unknown)
            raise ValueError(
                f"character {unknown!r} ({codes}) {position} is not in the vocabulary of "
                f"{len(self.alphabet)} characters{hint}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Convert token ids to text."""
        return "".join(self._tokens[index] for index in ids)

    def incremental_decoder(self) -> Callable[[int], str]:
        """Return a function that decodes a sequence one token per call."""
        return self._tokens.__getitem__

    def id_to_token(self, token: int) -> str:
        """Return a token in readable form: its character, or `<|endoftext|>`."""
        return self._tokens[token] or END_OF_TEXT

    def num_chars(self, token: int) -> int:
        """Return the number of characters of a token: 1, or 0 for the end of a document."""
        return len(self._tokens[token])

    def unknown_characters(self, text: str) -> set[str]:
        """Return the characters of a text that are not in the alphabet."""
        return set(text) - self._ids.keys()


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
