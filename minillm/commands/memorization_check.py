"""Memorization check of `predict`: what a generated text has in common with the training text."""

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memorization:
    """What a generated text has in common with the training text.

    Args:
        match: Longest verbatim match; empty if it is short.
        is_training_document: Whether the text is a document of the training text; None without documents.
    """

    match: str
    is_training_document: bool | None

    def __str__(self) -> str:
        """Return a description of one line."""
        if self.is_training_document:
            return "a document of the training text, word for word"
        if self.match:
            return f"longest verbatim match with the training text: {len(self.match)} characters, {self.match!r}"
        from minillm.generation.memorization import MIN_MATCH_BYTES

        no_match = f"no verbatim match of {MIN_MATCH_BYTES} bytes or more with the training text"
        return no_match if self.is_training_document is None else "new"


class TrainingText:
    """Training text to compare generated texts with.

    Args:
        documents: Its documents; without documents, the whole text.
        has_documents: Whether the text consists of documents.
    """

    def __init__(self, documents: list[str], has_documents: bool) -> None:
        self.documents = frozenset(documents) if has_documents else None
        from minillm.generation.memorization import VerbatimIndex  # imported late, to keep --help fast

        self._index = VerbatimIndex("\n".join(documents).encode())

    def compare(self, prompt: str, text: str) -> Memorization:
        """Compare a generated text, which follows a prompt, with the training text."""
        is_document = None if self.documents is None else prompt + text in self.documents
        return Memorization(self._index.longest_match(text), is_document)


def read_training_text(data: dict[str, Any], corpus: str | None) -> TrainingText | None:
    """Load the text that the model was trained on.

    Args:
        data: The data settings of the checkpoint.
        corpus: The value of --corpus; None for the corpus named in the checkpoint.

    Returns:
        The text, or None, after a message on stderr, if the corpus named in the checkpoint cannot be used.

    Raises:
        ValueError: The corpus cannot be read.
    """
    from minillm.data.corpus import may_read_unasked, open_corpus  # imported late, to keep --help fast
    from minillm.data.named_corpora import NAMED_CORPORA
    from minillm.data.text_files import TextFormat

    name = data.get("corpus") if corpus is None else corpus
    if corpus is None and (name is None or not may_read_unasked(name)):
        reason = f"corpus {name!r} does not exist, or is a folder, a glob pattern or very large; pass it with --corpus"
        print(f"memorization check skipped: {reason}", file=sys.stderr)
        return None
    opened = open_corpus(str(name), TextFormat.of(data))
    saved = None if corpus or name in NAMED_CORPORA else data["text_sha256"].get("corpus")
    if saved is not None and opened.sha256() != saved:
        print(f"memorization check: corpus {name!r} has changed since the model was trained", file=sys.stderr)
    documents = opened.documents() if data.get("val_corpus") else opened.training_documents()
    return TrainingText(documents, opened.has_documents)
