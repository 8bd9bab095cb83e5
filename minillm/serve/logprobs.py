"""Log probabilities of tokens, in the format of OpenAI's completions API."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minillm.generation.kv_cache import Array
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling import probabilities
from minillm.generation.sampling_params import SamplingParams
from minillm.tokenizer import Tokenizer


@dataclass
class TokenLogprobs:
    """A token, where it stands, and how likely it and others were there.

    Args:
        token: What it stands for.
        offset: Characters of the text before it.
        logprob: Natural logarithm of its probability; None where nothing comes before it.
        top: The same of the likeliest tokens.
    """

    token: str
    offset: int
    logprob: float | None = None
    top: dict[str, float] | None = None


class Pending:
    """The log-probabilities of a text's tokens, each held back until its characters are shown.

    Args:
        tokenizer: What the tokens mean.
        settings: How they are chosen.
        count: How many of the likeliest to report.
        processed: Report what the token is drawn from, after temperature and filters, and not what the model says.
    """

    def __init__(self, tokenizer: Tokenizer, settings: SamplingParams, count: int, processed: bool) -> None:
        self._tokenizer, self._count = tokenizer, count
        self._choice = (settings.temperature, settings.top_k, settings.top_p) if processed else (1.0, None, None)
        self._decode = tokenizer.incremental_decoder()
        self._waiting: deque[tuple[int, TokenLogprobs]] = deque()  # with the characters up to its end
        self._num_chars = self._num_shown = 0

    def add(self, token: int, logits: Array) -> None:
        """Take the next token and the scores (V,) that it was chosen by."""
        about = describe(self._tokenizer, token, probabilities(logits[None], *self._choice)[0], self._count)
        about.offset = self._num_chars
        self._num_chars += len(self._decode(token))
        self._waiting.append((self._num_chars, about))

    def shown(self, num_chars: int) -> list[TokenLogprobs]:
        """That many more characters are shown: the tokens that end there or before."""
        self._num_shown += num_chars
        ready: list[TokenLogprobs] = []
        while self._waiting and self._waiting[0][0] <= self._num_shown:
            ready.append(self._waiting.popleft()[1])
        return ready


def score(decoder: NumpyDecoder, tokenizer: Tokenizer, ids: Sequence[int], count: int) -> Iterator[TokenLogprobs]:
    """How likely each token of a text is after those before it.

    A text longer than the context is read in windows that overlap by half, so that every token but the first ones is
    seen after at least half a context.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        ids: The text.
        count: How many of the likeliest tokens to report.
    """
    decode, offset, scored = tokenizer.incremental_decoder(), 0, 1
    if ids:
        yield TokenLogprobs(tokenizer.id_to_token(ids[0]), 0)
        offset = len(decode(ids[0]))
    context = decoder.config.context_length
    for begin in range(0, max(len(ids) - 1, 0), max(context // 2, 1)):
        window = ids[begin : begin + context + 1]
        if begin + len(window) <= scored:
            break
        logits, _ = decoder.logits_and_attention(np.array([window[:-1]]))
        new = slice(scored - 1 - begin, None)
        for token, likely in zip(window[scored - begin :], probabilities(logits[0, new]), strict=True):
            about = describe(tokenizer, token, likely, count)
            about.offset = offset
            offset += len(decode(token))
            yield about
        scored = begin + len(window)


def describe(tokenizer: Tokenizer, token: int, likely: Array, count: int) -> TokenLogprobs:
    """Name a token, and with it the likeliest ones in its place, of probabilities (V,)."""
    with np.errstate(divide="ignore"):
        logprobs = np.maximum(np.log(likely), -9999.0)  # JSON has no infinity
    largest = np.argsort(-likely, kind="stable")[:count]
    top = {tokenizer.id_to_token(index): float(logprobs[index]) for index in largest.tolist() if likely[index] > 0}
    top[tokenizer.id_to_token(token)] = float(logprobs[token])
    return TokenLogprobs(tokenizer.id_to_token(token), 0, float(logprobs[token]), top)
