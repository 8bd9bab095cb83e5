"""Text generation: an iterator over token ids, and on top of it an iterator over text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minillm.generation.decoder import InferenceDecoder
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.numpy_kv_cache import Array
from minillm.generation.sampling import sample
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.text_stream import TextStream
from minillm.tokenizer import Tokenizer
from minillm.tokenizer.prompts import normalize_prompt

if TYPE_CHECKING:
    from torch import nn


def generate(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int = SamplingParams.max_new_tokens,
    temperature: float = SamplingParams.temperature,
    top_k: int | None = SamplingParams.top_k,
    top_p: float | None = SamplingParams.top_p,
    seed: int | None = SamplingParams.seed,
    stop: str | Sequence[str] = SamplingParams.stop,
) -> Iterator[str]:
    """Continue a prompt, streaming the text as it is generated.

    Args:
        model: A trained decoder, or the `LanguageModel` that wraps it. A model class of your own is run by PyTorch.
        tokenizer: The tokenizer it was trained with.
        prompt: Text to continue; an empty prompt starts a new line.
        max_new_tokens: Maximum number of tokens to generate.
        temperature: Divides the logits; 0 always selects the most likely token.
        top_k: Sample from this many most likely tokens.
        top_p: Sample from the smallest set of most likely tokens whose total probability reaches this value.
        seed: Seed of the sampling; None draws a random one.
        stop: A string, or several; generation ends before the first of them.

    Returns:
        An iterator over chunks of text, which joined are the continuation without the prompt.

    Raises:
        ValueError: A setting is out of range, or the prompt has a character unknown to the tokenizer.
    """
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    settings = SamplingParams(max_new_tokens, temperature, top_k, top_p, seed, stop)
    encode_prompt(tokenizer, prompt)  # raises here rather than at the first iteration
    chunks = generate_batch(_decoder(model), tokenizer, prompt, settings, [seed])
    return (chunk for _, chunk in chunks)


def _decoder(model: Any) -> InferenceDecoder:
    """Return a NumPy decoder for a model on the CPU; PyTorch runs a model on an accelerator or with custom parts."""
    if hasattr(model, "training_step"):  # a LightningModule
        model = model.model
    from minillm.generation.torch_decoder import TorchDecoder  # imported here because other callers need only NumPy
    from minillm.model.custom import custom_parts

    if custom_parts(model) or any(weight.device.type != "cpu" for weight in model.parameters()):
        return TorchDecoder(model)
    return NumpyDecoder.from_model(model)


def generate_batch(
    decoder: InferenceDecoder,
    tokenizer: Tokenizer,
    prompt: str,
    settings: SamplingParams,
    seeds: Sequence[int | None],
) -> Iterator[tuple[int, str]]:
    """Generate several continuations of a prompt as a batch, one per seed.

    Args:
        decoder: The model.
        tokenizer: The tokenizer it was trained with.
        prompt: Text to continue; an empty prompt starts a new line.
        settings: Sampling parameters; its `seed` is ignored.
        seeds: One per continuation, which does not depend on the other seeds (except for rounding errors in the
            logits, which almost never change a token).

    Returns:
        An iterator over pairs of the index of a continuation and its next chunk of text, in order of generation.
    """
    ids = np.array(encode_prompt(tokenizer, prompt)[-decoder.config.context_length :])
    generators = [random.Random(seed) for seed in seeds]
    streams = [TextStream(tokenizer, settings.stop) for _ in seeds]
    for newest in generate_ids(decoder, ids, generators, settings):
        for index, (stream, token) in enumerate(zip(streams, newest.tolist(), strict=True)):
            if chunk := stream.add(token):
                yield index, chunk
        if all(stream.ended for stream in streams):
            return
    for index, stream in enumerate(streams):
        if chunk := stream.finish():
            yield index, chunk


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the token ids of a prompt, which begins a document if the model was trained on documents.

    Args:
        tokenizer: The tokenizer of the model.
        prompt: Text; it is normalized, and without documents, an empty one becomes a newline, or the first known
            character.

    Raises:
        ValueError: The prompt has a character unknown to the tokenizer.
    """
    text = normalize_prompt(prompt, tokenizer)
    return tokenizer.start_of_text + tokenizer.encode(text or tokenizer.default_prompt)


def overflow_length(decoder: InferenceDecoder) -> int:
    """Return the number of newest tokens that are kept as context when the KV cache is full."""
    return max(decoder.config.context_length // 4, 1)


def generate_ids(
    decoder: InferenceDecoder, prompt: Array, generators: Sequence[random.Random], settings: SamplingParams
) -> Iterator[Array]:
    """Generate a batch of B continuations of a prompt, one token per sequence and step.

    The model attends to at most `context_length` tokens. When the KV cache is full, it is refilled with the newest
    quarter of these tokens; a window that slides by one token would require a prefill at every step.

    Args:
        decoder: The model.
        prompt: (T,) token ids, at least 1.
        generators: B random generators, one per sequence, so that sequences do not depend on each other.
        settings: Sampling parameters; `seed` and `stop` are ignored.

    Returns:
        An iterator over the (B,) newest ids of `max_new_tokens` steps.
    """
    B, context_length = len(generators), decoder.config.context_length
    new_ids = prompt[None, -context_length:]  # a single row: the prefill is the same for all sequences
    window, cache = [new_ids.repeat(B, axis=0)], decoder.new_cache(1)
    for _ in range(settings.max_new_tokens):
        if cache.length + new_ids.shape[1] > context_length:
            new_ids = np.concatenate(window, axis=1)[:, -overflow_length(decoder) :]
            window, cache = [new_ids], decoder.new_cache(B)
        logits = decoder(new_ids, cache)
        if len(logits) < B:
            logits, cache = logits.repeat(B, axis=0), cache.repeat(B)
        uniform = np.array([generator.random() for generator in generators])
        newest = sample(logits, uniform, settings.temperature, settings.top_k, settings.top_p)
        new_ids = newest[:, None]
        window.append(new_ids)
        yield newest
