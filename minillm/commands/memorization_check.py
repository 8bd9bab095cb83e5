"""Memorization check of `predict`: what a generated text has in common with the training text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minillm.generation.training_text import TrainingText


@dataclass(frozen=True)
class Memorization:
    """What a generated text has in common with the training text.

    Args:
        match: Longest verbatim match; empty if it is short.
        is_training_document: Whether the text is a document of the training text; None without documents.
    """

    match: str
    is_training_document: bool | None

    @classmethod
    def of(cls, prompt: str, text: str, training_text: TrainingText) -> Memorization:
        """Compare a generated text, which follows a prompt, with the training text."""
        return cls(training_text.index.longest_match(text), training_text.is_document(prompt + text))

    def __str__(self) -> str:
        """Return a description of one line."""
        if self.is_training_document:
            return "a document of the training text, word for word"
        if self.match:
            return f"longest verbatim match with the training text: {len(self.match)} characters, {self.match!r}"
        from minillm.generation.memorization import MIN_MATCH_BYTES  # imported late, to keep --help fast

        no_match = f"no verbatim match of {MIN_MATCH_BYTES} bytes or more with the training text"
        return no_match if self.is_training_document is None else "new"


def read_training_text(data: dict[str, Any], corpus: str | None) -> TrainingText | None:
    """Read the text that the model was trained on.

    Args:
        data: The data settings of the checkpoint.
        corpus: The value of --corpus; None for the corpus named in the checkpoint.

    Returns:
        The text, or None, after a message on stderr, if the corpus named in the checkpoint cannot be used.

    Raises:
        ValueError: The corpus cannot be read.
    """
    from minillm.generation.training_text import (  # imported late, to keep --help fast
        TrainingText,
        is_unchanged,
        open_training_corpus,
    )

    opened = open_training_corpus(data, corpus)
    name = data.get("corpus")
    if opened is None:
        reason = f"corpus {name!r} does not exist, or is a folder, a glob pattern or very large; pass it with --corpus"
        print(f"memorization check skipped: {reason}", file=sys.stderr)
        return None
    if corpus is None and is_unchanged(opened, data) is False:
        print(f"memorization check: corpus {name!r} has changed since the model was trained", file=sys.stderr)
    return TrainingText(opened, data)
