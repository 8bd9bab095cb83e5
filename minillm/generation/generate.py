"""Generation: an iterator of token ids, and on top of it an iterator of text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minillm.generation.kv_cache import Array
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling import sample
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.text_stream import TextStream
from minillm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minillm.model import Decoder


def generate(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int = SamplingParams.max_new_tokens,
    temperature: float = SamplingParams.temperature,
    top_k: int | None = SamplingParams.top_k,
    top_p: float | None = SamplingParams.top_p,
    seed: int | None = SamplingParams.seed,
    stop: Sequence[str] = SamplingParams.stop,
) -> Iterator[str]:
    """Continue a prompt, piece by piece as the text is made.

    Args:
        model: A trained decoder.
        tokenizer: The tokenizer it was trained with.
        prompt: Text to continue; an empty one starts a new line.
        max_new_tokens: Most tokens to make.
        temperature: Divides the logits; 0 always takes the likeliest token.
        top_k: Choose among this many likeliest tokens.
        top_p: Choose among the likeliest tokens that reach this probability together.
        seed: The same seed gives the same text; None takes a fresh one.
        stop: The text ends before the first of these strings that appears in it.

    Returns:
        Text pieces; joined, they are the continuation without the prompt.

    Raises:
        ValueError: A setting is out of its range, or the prompt has a character that the tokenizer does not know.
    """
    settings = SamplingParams(max_new_tokens, temperature, top_k, top_p, seed, tuple(stop))
    encode_prompt(tokenizer, prompt)  # complain now, not when the first piece is asked for
    pieces = generate_batch(NumpyDecoder.of(model), tokenizer, prompt, settings, [seed])
    return (piece for _, piece in pieces)


def generate_batch(
    decoder: NumpyDecoder, tokenizer: Tokenizer, prompt: str, settings: SamplingParams, seeds: Sequence[int | None]
) -> Iterator[tuple[int, str]]:
    """Continue a prompt in several ways at once, a way a seed.

    Args:
        decoder: The model.
        tokenizer: The tokenizer it was trained with.
        prompt: Text to continue; an empty one starts a new line.
        settings: How to choose and when to stop; its own seed is not looked at.
        seeds: Each gives the text that it would give alone (but for the last bits of the sums, which almost never
            decide a choice).

    Returns:
        Pairs of a number of a text and its next piece, in the order in which they are made.
    """
    ids = np.array(encode_prompt(tokenizer, prompt)[-decoder.config.context_length :])
    generators = [random.Random(seed) for seed in seeds]
    texts = [TextStream(tokenizer, settings.stop) for _ in seeds]
    for newest in generate_ids(decoder, ids, generators, settings):
        for number, (text, token) in enumerate(zip(texts, newest.tolist(), strict=True)):
            if piece := text.add(token):
                yield number, piece
        if all(text.ended for text in texts):
            return
    for number, text in enumerate(texts):
        if piece := text.finish():
            yield number, piece


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt; those of a newline (or of the first known character) if it is empty.

    Raises:
        ValueError: The prompt has a character that the tokenizer does not know.
    """
    return tokenizer.encode(prompt or tokenizer.default_prompt)


def overflow_length(decoder: NumpyDecoder) -> int:
    """How many of the newest tokens the decoder goes on with when its window is full."""
    return max(decoder.config.context_length // 4, 1)


def generate_ids(
    decoder: NumpyDecoder, prompt: Array, generators: Sequence[random.Random], settings: SamplingParams
) -> Iterator[Array]:
    """Continue a prompt as a batch of texts, one token of each at a time.

    Of a text longer than the context the model sees the last part. When its window is full, it goes on with the last
    quarter of what it held, which is computed anew: to move by one token each time would be to compute every position
    anew each time.

    Args:
        decoder: The model.
        prompt: (T,) token ids, at least 1.
        generators: B random generators, one a text, so that a text does not depend on its neighbours.
        settings: How to choose; the seed and the stop strings are the caller's business.

    Returns:
        `max_new_tokens` times the (B,) newest ids.
    """
    B, context_length = len(generators), decoder.config.context_length
    new = prompt[None, -context_length:]  # one row for all, as long as they are the same
    window, cache = [new.repeat(B, axis=0)], decoder.new_cache(1)
    for _ in range(settings.max_new_tokens):
        if cache.length + new.shape[1] > context_length:
            new = np.concatenate(window, axis=1)[:, -overflow_length(decoder) :]
            window, cache = [new], decoder.new_cache(B)
        logits = decoder(new, cache)
        if len(logits) < B:
            logits, cache = logits.repeat(B, axis=0), cache.repeat(B)
        uniform = np.array([generator.random() for generator in generators])
        newest = sample(logits, uniform, settings.temperature, settings.top_k, settings.top_p)
        new = newest[:, None]
        window.append(new)
        yield newest
