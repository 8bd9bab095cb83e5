"""Training text of a model, to compare generated texts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minillm.data.corpus import may_read_unasked, open_corpus
from minillm.data.named_corpora import NAMED_CORPORA
from minillm.data.text_files import TextFormat
from minillm.generation.memorization import VerbatimIndex

if TYPE_CHECKING:
    from minillm.data.corpus import Corpus


class TrainingText:
    """Training text, with an index of its substrings.

    Args:
        corpus: The corpus that the model was trained on.
        data: The data settings of the checkpoint: with a `val_corpus`, all of the corpus is training text.

    Raises:
        ValueError: The corpus cannot be read.
    """

    def __init__(self, corpus: Corpus, data: dict[str, Any]) -> None:
        documents = corpus.documents() if data.get("val_corpus") else corpus.training_documents()
        self._documents = frozenset(documents) if corpus.has_documents else None
        self.index = VerbatimIndex("\n".join(documents).encode())

    @property
    def has_documents(self) -> bool:
        """Whether the text consists of documents."""
        return self._documents is not None

    def is_document(self, text: str) -> bool | None:
        """Return whether a text is one of the documents; None without documents."""
        return None if self._documents is None else text in self._documents


def open_training_corpus(data: dict[str, Any], corpus: str | None = None) -> Corpus | None:
    """Open the corpus that a model was trained on.

    Args:
        data: The data settings of the checkpoint.
        corpus: Where the corpus is; None for the place that the checkpoint names.

    Returns:
        The corpus, or None if only the checkpoint names it and it does not exist, or may not be read unasked.

    Raises:
        ValueError: The corpus cannot be read.
    """
    name = data.get("corpus") if corpus is None else corpus
    if name is None or (corpus is None and not may_read_unasked(name)):
        return None
    return open_corpus(name, TextFormat.of(data))


def is_unchanged(corpus: Corpus, data: dict[str, Any]) -> bool | None:
    """Return whether a corpus is still what the model was trained on; None if the checkpoint does not say.

    Raises:
        ValueError: The corpus cannot be read.
    """
    if corpus.name in NAMED_CORPORA:  # whose text is always verified
        return True
    saved = data["text_sha256"].get("corpus")
    return None if saved is None else corpus.sha256() == saved
