"""Memorization check of `predict`: read the training text, and report the longest verbatim match with it."""

import sys
from typing import Any


def read_training_text(data: dict[str, Any], corpus: str | None) -> bytes | None:
    """Load the text that the model was trained on, for the memorization check.

    Args:
        data: The data settings of the checkpoint.
        corpus: The value of --corpus; None for the corpus named in the checkpoint.

    Returns:
        The text in UTF-8, or None, after a message on stderr, if the corpus named in the checkpoint cannot be used.
    """
    from minillm.data import corpus as corpora  # imported late, to keep --help fast

    name = data.get("corpus") if corpus is None else corpus
    if corpus is None and (name is None or not corpora.may_read_unasked(name)):
        reason = f"corpus {name!r} does not exist, or is a folder, a glob pattern or very large; pass it with --corpus"
        print(f"memorization check skipped: {reason}", file=sys.stderr)
        return None
    saved = None if corpus or name in corpora.NAMED_CORPORA else data["text_sha256"].get("corpus")
    if saved is not None and corpora.sha256_of_text(corpora.open_documents(str(name))) != saved:
        print(f"memorization check: corpus {name!r} has changed since the model was trained", file=sys.stderr)
    text = corpora.load_text(str(name))
    return (text if data.get("val_corpus") else text[: int(corpora.TRAIN_FRACTION * len(text))]).encode()


def report_memorization(text: str, training_text: bytes) -> str:
    """Print and return the longest verbatim match of a generated text with the training text."""
    from minillm.generation.memorization import MIN_MATCH_BYTES, longest_verbatim_match

    match = longest_verbatim_match(text, training_text)
    if match:
        result = f"longest verbatim match with the training text: {len(match)} characters, {match!r}"
    else:
        result = f"no verbatim match of {MIN_MATCH_BYTES} bytes or more with the training text"
    print(f"memorization check: {result}", file=sys.stderr)
    return match
