"""Completion requests: from the request to texts, and their parts as they are generated."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from minillm.generation.generate import encode_prompt
from minillm.generation.sampling_params import SamplingParams
from minillm.serve.engine import Engine, PendingText
from minillm.serve.errors import RefusedError
from minillm.serve.logprobs import TokenLogprobs, score
from minillm.serve.requests import CompletionRequest, OnUnknown
from minillm.serve.responses import Choice, Completion, Logprobs, Usage
from minillm.serve.worker import TextDelta
from minillm.tokenizer import Tokenizer
from minillm.tokenizer.prompts import handle_unknown, normalize_prompt


@dataclass
class RequestedText:
    """One text of a request.

    Args:
        prompt: Text that it continues.
        ids: Token ids of the prompt.
        seed: Seed of its random numbers.
        pending: Its generation; None if only the prompt is requested.
    """

    prompt: str
    ids: list[int]
    seed: int
    pending: PendingText | None


class CompletionTask:
    """Generation of the texts of a request.

    Args:
        request: The request.
        model: Name of the model.
        engine: Engine of the model.
        max_seconds: Time until the request is refused.
        unfinished: Set that the task is in between `start` and `close`.

    Raises:
        RefusedError: A prompt has a character or a token that is not in the vocabulary.
    """

    def __init__(
        self,
        request: CompletionRequest,
        model: str,
        engine: Engine,
        max_seconds: float,
        unfinished: set[CompletionTask],
    ) -> None:
        self._request, self._engine, self._unfinished = request, engine, unfinished
        self._deadline = asyncio.get_running_loop().time() + max_seconds
        self._changed = asyncio.Event()
        self._is_closed = threading.Event()
        self._header: dict[str, Any] = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._seed = random.randrange(2**32) if request.seed is None else request.seed
        self._texts = [text for prompt in request.prompt for text in self._create_texts(prompt)]

    @property
    def num_texts(self) -> int:
        """Number of requested texts."""
        return len(self._texts)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self._request.stream_options.include_usage

    def start(self) -> None:
        """Start to generate the texts; `close` must follow."""
        self._unfinished.add(self)
        self._engine.submit([text.pending for text in self._texts if text.pending])

    def close(self) -> None:
        """Stop generating the texts."""
        self._unfinished.discard(self)
        self._is_closed.set()
        for text in self._texts:
            if text.pending:
                self._engine.cancel(text.pending)

    async def result(self) -> Completion:
        """Wait for the whole completion.

        Raises:
            RefusedError: It takes too long, or a worker ends.
        """
        choices: dict[int, Choice] = {}
        async for part in self.parts():
            for choice in part.choices:
                whole = choices.setdefault(choice.index, choice)
                if whole is not choice:
                    whole.text += choice.text
                    whole.finish_reason = choice.finish_reason
                    if whole.logprobs and choice.logprobs:
                        for name in Logprobs.model_fields:
                            getattr(whole.logprobs, name).extend(getattr(choice.logprobs, name))
        return Completion(**self._header, choices=[choices[index] for index in sorted(choices)], usage=self._usage())

    async def parts(self) -> AsyncIterator[Completion]:
        """Yield parts of the completion as they are generated.

        Raises:
            RefusedError: It takes too long, or a worker ends.
        """
        if self._request.echo:
            async for part in self._echo_prompts():
                yield part
        generating = {index: text.pending for index, text in enumerate(self._texts) if text.pending}
        while generating:
            async with self._deadline_enforced():
                await self._changed.wait()
            self._changed.clear()
            for index, pending in list(generating.items()):
                if pending.is_lost:
                    raise RefusedError(503, "the server is stopping, or a worker process ended: try again")
                delta = pending.take()
                if delta.text or delta.logprobs or delta.finish_reason:
                    yield self._part(index, delta, len(self._texts[index].prompt) if self._request.echo else 0)
                if delta.finish_reason:
                    del generating[index]

    def usage_part(self) -> Completion:
        """Return the part with the numbers of tokens."""
        return Completion(**self._header, choices=[], usage=self._usage())

    def _usage(self) -> Usage:
        num_read = sum(len(text.ids) for text in self._texts) // self._request.n
        num_generated = sum(text.pending.num_tokens for text in self._texts if text.pending)
        return Usage(prompt_tokens=num_read, completion_tokens=num_generated, total_tokens=num_read + num_generated)

    def _create_texts(self, prompt: str | list[int]) -> Iterator[RequestedText]:
        request, tokenizer = self._request, self._engine.tokenizer
        text, ids = (
            encode(tokenizer, prompt, request.on_unknown, add_special_tokens=request.add_special_tokens)
            if isinstance(prompt, str)
            else decode(tokenizer, prompt)
        )
        top_p = None if request.top_p == 1 else request.top_p
        for seed in range(self._seed, self._seed + request.n):
            pending = None
            if request.max_tokens:
                sampling = request.temperature, request.top_k, top_p
                params = SamplingParams(request.max_tokens, *sampling, seed, tuple(request.stop))
                pending = PendingText(ids, params, request.logprobs, request.processed_logprobs, self._changed)
            yield RequestedText(text, ids, seed, pending)

    async def _echo_prompts(self) -> AsyncIterator[Completion]:
        """Yield the prompts as the first parts of their texts."""
        logprobs: list[TokenLogprobs] = []
        for index, text in enumerate(self._texts):
            if self._request.logprobs is not None and index % self._request.n == 0:
                logprobs = []
                if text.prompt:  # the tokens of an empty prompt are not part of the text
                    async with self._deadline_enforced(), self._engine.scoring:
                        logprobs = await asyncio.to_thread(self._score, text.ids)
            delta = TextDelta(text.prompt, logprobs=logprobs, finish_reason=None if text.pending else "length")
            yield self._part(index, delta, 0)

    def _score(self, ids: list[int]) -> list[TokenLogprobs]:
        scored: list[TokenLogprobs] = []
        for logprobs in score(self._engine.decoder, self._engine.tokenizer, ids, self._request.logprobs or 0):
            if self._is_closed.is_set():
                break
            scored.append(logprobs)
        return scored

    @asynccontextmanager
    async def _deadline_enforced(self) -> AsyncGenerator[None]:
        try:
            if asyncio.get_running_loop().time() > self._deadline:
                raise TimeoutError
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError:
            message = "the request takes too long: ask for fewer or shorter texts"
            raise RefusedError(504, message, code="deadline_exceeded") from None

    def _part(self, index: int, delta: TextDelta, offset: int) -> Completion:
        seed = self._texts[index].seed
        choice = Choice(index=index, text=delta.text, finish_reason=delta.finish_reason, seed=seed)
        if self._request.logprobs is not None:
            choice.logprobs = Logprobs(
                tokens=[token.token for token in delta.logprobs],
                token_logprobs=[token.logprob for token in delta.logprobs],
                top_logprobs=[token.top for token in delta.logprobs],
                text_offset=[token.offset + offset for token in delta.logprobs],
            )
        return Completion(**self._header, choices=[choice])


def encode(
    tokenizer: Tokenizer, text: str, on_unknown: OnUnknown, param: str = "prompt", add_special_tokens: bool = True
) -> tuple[str, list[int]]:
    """Encode a text.

    Args:
        tokenizer: Tokenizer of the model.
        text: The text.
        on_unknown: Treatment of characters that are not in the vocabulary.
        param: Name of the request's field.
        add_special_tokens: Whether to add what begins a prompt: the start of a document, or a newline if it is empty.

    Returns:
        The text in the form of the training text, without unknown characters, and its token ids.

    Raises:
        RefusedError: It has an unknown character, and `on_unknown` is `error`.
    """
    if on_unknown == "error":
        text = normalize_prompt(text, tokenizer)
    else:
        text, _ = handle_unknown(text, tokenizer, replace=on_unknown == "replace")
    try:
        return text, encode_prompt(tokenizer, text) if add_special_tokens or not text else tokenizer.encode(text)
    except ValueError as error:
        message = f"{error}; on_unknown can skip or replace it"
        raise RefusedError(400, message, param, "unknown_character") from None


def decode(tokenizer: Tokenizer, ids: list[int], param: str = "prompt") -> tuple[str, list[int]]:
    """Decode token ids.

    Args:
        tokenizer: Tokenizer of the model.
        ids: At least one token id.
        param: Name of the request's field.

    Returns:
        The text, and the token ids.

    Raises:
        RefusedError: A token id is not in the vocabulary.
    """
    if max(ids) >= tokenizer.vocab_size:
        message = f"token {max(ids)} is not in the vocabulary of {tokenizer.vocab_size} tokens"
        raise RefusedError(400, message, param, "unknown_token")
    return tokenizer.decode(ids), ids
