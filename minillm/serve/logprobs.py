"""Log probabilities of tokens, in the format of OpenAI's completions API."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.numpy_kv_cache import Array
from minillm.generation.sampling import probabilities
from minillm.generation.sampling_params import SamplingParams
from minillm.tokenizer import Tokenizer


@dataclass
class TokenLogprobs:
    """Log probabilities at one position of a text.

    Args:
        token: Text of the token at this position.
        offset: Number of characters before it.
        logprob: Natural logarithm of its probability; None without context.
        top: Log probabilities of the most probable tokens, and of this one.
    """

    token: str
    offset: int
    logprob: float | None = None
    top: dict[str, float] | None = None


class PendingLogprobs:
    """Log probabilities of a text's tokens, each kept until its characters are sent.

    Args:
        tokenizer: Tokenizer of the model.
        params: Sampling parameters of the text.
        count: Number of most probable tokens to report.
        processed: Report the distribution that the token was drawn from instead of the model's.
    """

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams, count: int, processed: bool) -> None:
        self._tokenizer, self._count = tokenizer, count
        self._sampling = (params.temperature, params.top_k, params.top_p) if processed else (1.0, None, None)
        self._decode = tokenizer.incremental_decoder()
        self._waiting: deque[tuple[int, TokenLogprobs]] = deque()  # with the number of characters up to its end
        self._num_chars = self._num_sent = 0

    def add(self, token: int, logits: Array) -> None:
        """Add a token and the logits (V,) that it was sampled from."""
        about = token_logprobs(self._tokenizer, token, probabilities(logits[None], *self._sampling)[0], self._count)
        about.offset = self._num_chars
        self._num_chars += len(self._decode(token))
        self._waiting.append((self._num_chars, about))

    def take(self, num_chars: int) -> list[TokenLogprobs]:
        """Return the tokens that end within the next characters to send."""
        self._num_sent += num_chars
        ready: list[TokenLogprobs] = []
        while self._waiting and self._waiting[0][0] <= self._num_sent:
            ready.append(self._waiting.popleft()[1])
        return ready


def score(decoder: NumpyDecoder, tokenizer: Tokenizer, ids: Sequence[int], count: int) -> Iterator[TokenLogprobs]:
    """Yield the log probability of each token of a text.

    A text longer than the context is scored in windows that overlap by half: every token except the first ones has at
    least half a context before it.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        ids: Token ids of the text.
        count: Number of most probable tokens to report.
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
            about = token_logprobs(tokenizer, token, likely, count)
            about.offset = offset
            offset += len(decode(token))
            yield about
        scored = begin + len(window)


def token_logprobs(tokenizer: Tokenizer, token: int, likely: Array, count: int) -> TokenLogprobs:
    """Return the log probabilities of a token and of the most probable ones, given probabilities (V,)."""
    with np.errstate(divide="ignore"):
        logprobs = np.maximum(np.log(likely), -9999.0)  # JSON has no infinity
    largest = np.argsort(-likely, kind="stable")[:count]
    top = {tokenizer.id_to_token(index): float(logprobs[index]) for index in largest.tolist() if likely[index] > 0}
    top[tokenizer.id_to_token(token)] = float(logprobs[token])
    return TokenLogprobs(tokenizer.id_to_token(token), 0, float(logprobs[token]), top)
