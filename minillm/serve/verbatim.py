"""Route that finds what a text has in common with the training text of a model, word for word."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from minillm.generation.training_text import TrainingText, is_unchanged, open_training_corpus
from minillm.serve.errors import RefusedError
from minillm.serve.requests import VerbatimRequest
from minillm.serve.responses import VerbatimMatch, VerbatimMatches

MAX_TEXT_BYTES = 2**26  # size limit for a training text, whose index takes four times as much memory


async def show_verbatim_matches(body: VerbatimRequest, request: Request) -> VerbatimMatches:
    """Find the parts of a text that occur word for word in the training text."""
    _, engine = await request.app.state.models.get(body.model)
    async with engine.scoring:
        if engine.training_text is None:
            engine.training_text = await asyncio.to_thread(_read, engine.data)
        found = await asyncio.to_thread(engine.training_text.index.matches, body.text, body.min_length)
    matches = [VerbatimMatch(start=match.start, length=len(match.text), line=match.line) for match in found]
    return VerbatimMatches(corpus=engine.corpus, matches=matches)


def _read(data: dict[str, Any]) -> TrainingText:
    """Read the training text that a checkpoint names, if its hash proves that the model was trained on it.

    Anyone can write a checkpoint, and with this route one could find out the content of a file that it names.
    """
    try:
        corpus = open_training_corpus(data)
        if corpus is not None and corpus.size <= MAX_TEXT_BYTES and is_unchanged(corpus, data):
            return TrainingText(corpus, data)
    except (OSError, ValueError):
        pass
    raise RefusedError(
        404,
        "the training text of this model is not where it was during training, or has changed, or is very large",
        "model",
        "training_text_not_found",
    )
