"""Prompts: line breaks, Unicode normalization, and characters outside the vocabulary."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from minillm.tokenizer import Tokenizer

NormalForm = Literal["NFC", "NFD"]

MAX_CLUSTER_CHARS = 40  # that errors show
ZERO_WIDTH_JOINER = "\u200d"
_SIMILAR = str.maketrans(
    {
        **dict(zip("‘’‚‛′“”„‟″«»–—―−‐‑⁄•·\t\n", '\'\'\'\'\'"""""""------/**  ', strict=True)),
        **{"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ß": "ss", "ẞ": "SS", "þ": "th", "Þ": "Th"},
        **dict(zip("øØłŁđĐðÐħĦıŋ", "oOlLdDdDhHin", strict=True)),
    }
)


def check_normal_form(form: NormalForm | None) -> None:
    """Check the name of a Unicode normalization form.

    Raises:
        ValueError: It is neither None nor NFC nor NFD.
    """
    if form not in (None, "NFC", "NFD"):
        raise ValueError(f"normal_form must be NFC, NFD or None, got {form!r}")


def normalize_prompt(text: str, tokenizer: Tokenizer) -> str:
    r"""Return a text in the form of the training text.

    Line breaks become newlines. Characters get the Unicode normalization form of the training text; where there is
    none, only those outside the vocabulary are composed (NFC) or decomposed (NFD), if that makes them known: "e\u0301"
    becomes "é".

    Args:
        text: A prompt or a stop string.
        tokenizer: The tokenizer of the model.
    """
    text = re.sub("\r\n?", "\n", text)
    if tokenizer.normal_form is not None:
        text = unicodedata.normalize(tokenizer.normal_form, text)
    return _map_unknown(text, tokenizer, lambda cluster: _known_form(cluster, tokenizer) or cluster)


def handle_unknown(text: str, tokenizer: Tokenizer, replace: bool = False) -> tuple[str, dict[str, str]]:
    """Remove what is outside the vocabulary, or replace it by something similar that is not.

    A letter with its marks and a sequence of emoji count as one. Similar is a letter without its marks, in the other
    case, or the ASCII form of a quotation mark or dash; what has nothing similar is removed.

    Args:
        text: The text.
        tokenizer: The tokenizer of the model.
        replace: Whether to replace it.

    Returns:
        The text, normalized as by `normalize_prompt`, and what was replaced in it by what.
    """
    replaced: dict[str, str] = {}

    def known(cluster: str) -> str:
        replaced[cluster] = (similar(cluster, tokenizer) or "") if replace else ""
        return replaced[cluster]

    return _map_unknown(normalize_prompt(text, tokenizer), tokenizer, known), replaced


def similar(cluster: str, tokenizer: Tokenizer) -> str | None:
    """Return something similar to a letter or symbol in the vocabulary, or None if there is nothing."""
    plain = cluster.translate(_SIMILAR)
    letters = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    for candidate in (plain, letters.translate(_SIMILAR), letters.swapcase(), plain.replace('"', "'")):
        if candidate and not tokenizer.unknown_characters(candidate):
            return candidate
    return None


def _known_form(cluster: str, tokenizer: Tokenizer) -> str | None:
    forms = (unicodedata.normalize("NFC", cluster), unicodedata.normalize("NFD", cluster))
    return next((form for form in forms if not tokenizer.unknown_characters(form)), None)


def _map_unknown(text: str, tokenizer: Tokenizer, function: Callable[[str], str]) -> str:
    """Apply a function to each cluster that has a character outside the vocabulary."""
    unknown = tokenizer.unknown_characters(text)
    if not unknown:
        return text
    return "".join(cluster if unknown.isdisjoint(cluster) else function(cluster) for cluster in _clusters(text))


def cluster_at(text: str, position: int) -> str:
    """Return the letter with its marks, or the sequence of emoji, that has a position of a text."""
    end = 0
    for cluster in _clusters(text):
        end += len(cluster)
        if end > position:
            return cluster
    raise IndexError(position)


def _clusters(text: str) -> Iterator[str]:
    """Split a text into what a reader takes for one character: letters with their marks, and emoji sequences."""
    start = 0
    for index in range(1, len(text)):
        before, character = text[index - 1], text[index]
        is_flag = _is_regional(before) and _is_regional(character) and (index - start) % 2 == 1
        if not (ZERO_WIDTH_JOINER in (before, character) or _extends(character) or is_flag):
            yield text[start:index]
            start = index
    if text:
        yield text[start:]


def _extends(character: str) -> bool:
    """Return whether a character is a mark, a variation selector, a skin tone or a tag of what stands before it."""
    return character > "\u02ff" and (
        unicodedata.category(character).startswith("M")
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
