"""From a request to texts, part by part as they are made."""

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
from minillm.serve.engine import Engine, Job
from minillm.serve.errors import RefusedError
from minillm.serve.logprobs import TokenLogprobs, score
from minillm.serve.schema import Choice, Completion, CompletionRequest, Logprobs, OnUnknown, Usage
from minillm.serve.worker import Order, Piece
from minillm.tokenizer import Tokenizer


@dataclass
class Wanted:
    """A text that was asked for.

    Args:
        prompt: What it continues.
        ids: The same as tokens.
        seed: What its choices are drawn with.
        job: What makes it; None: the prompt is all that is wanted.
    """

    prompt: str
    ids: list[int]
    seed: int
    job: Job | None


class Answer:
    """What a request asked for, in the making.

    Args:
        request: What was asked.
        name: Of the model.
        engine: Of the model, too.
        max_seconds: When to give up.
        unfinished: Where it is found from `begin` to `close`.

    Raises:
        RefusedError: The prompt has something that the model does not know.
    """

    def __init__(
        self, request: CompletionRequest, name: str, engine: Engine, max_seconds: float, unfinished: set[Answer]
    ) -> None:
        self._request, self._engine, self._unfinished = request, engine, unfinished
        self._deadline = asyncio.get_running_loop().time() + max_seconds
        self._changed = asyncio.Event()
        self._is_unwanted = threading.Event()
        self._about: dict[str, Any] = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        self._seed = random.randrange(2**32) if request.seed is None else request.seed
        self._wanted = [wanted for prompt in request.prompts for wanted in self._want(prompt)]

    @property
    def num_texts(self) -> int:
        """How many texts were asked for."""
        return len(self._wanted)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with what was used."""
        return self._request.stream_options.include_usage

    def begin(self) -> None:
        """Have it made; `close` ends that."""
        self._unfinished.add(self)
        for wanted in self._wanted:
            if wanted.job:
                self._engine.submit(wanted.job)

    def close(self) -> None:
        """It is all there, or not wanted any more."""
        self._unfinished.discard(self)
        self._is_unwanted.set()
        for wanted in self._wanted:
            if wanted.job:
                self._engine.drop(wanted.job)

    async def whole(self) -> Completion:
        """All of it, at once.

        Raises:
            RefusedError: It took too long, or the server stops.
        """
        choices: dict[int, Choice] = {}
        async for part in self.parts():
            for choice in part.choices:
                so_far = choices.setdefault(choice.index, choice)
                if so_far is not choice:
                    so_far.text += choice.text
                    so_far.finish_reason = choice.finish_reason
                    if so_far.logprobs and choice.logprobs:
                        for name in Logprobs.model_fields:
                            getattr(so_far.logprobs, name).extend(getattr(choice.logprobs, name))
        return Completion(**self._about, choices=[choices[index] for index in sorted(choices)], usage=self.usage())

    async def parts(self) -> AsyncIterator[Completion]:
        """The parts of it, as they are made.

        Raises:
            RefusedError: It took too long, or the server stops.
        """
        if self._request.echo:
            async for part in self._echoes():
                yield part
        making = {index: wanted.job for index, wanted in enumerate(self._wanted) if wanted.job}
        while making:
            async with self._in_time():
                await self._changed.wait()
            self._changed.clear()
            for index, job in list(making.items()):
                if job.is_lost:
                    raise RefusedError(503, "the server stops, or has a defect: its log says more")
                piece = job.take()
                if piece.text or piece.logprobs or piece.finish_reason:
                    yield self._part(index, piece, len(self._wanted[index].prompt) if self._request.echo else 0)
                if piece.finish_reason:
                    del making[index]

    def usage(self) -> Usage:
        """What was read and made so far."""
        read = sum(len(wanted.ids) for wanted in self._wanted) // self._request.n
        made = sum(wanted.job.num_tokens for wanted in self._wanted if wanted.job)
        return Usage(prompt_tokens=read, completion_tokens=made, total_tokens=read + made)

    def summary(self) -> Completion:
        """The part that says what was used."""
        return Completion(**self._about, choices=[], usage=self.usage())

    def _want(self, prompt: str | list[int]) -> Iterator[Wanted]:
        request, tokenizer = self._request, self._engine.tokenizer
        text, ids = (
            encode(tokenizer, prompt, request.on_unknown) if isinstance(prompt, str) else decode(tokenizer, prompt)
        )
        top_p = None if request.top_p == 1 else request.top_p
        stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)
        for seed in range(self._seed, self._seed + request.n):
            job = None
            if request.max_tokens:
                settings = SamplingParams(request.max_tokens, request.temperature, request.top_k, top_p, seed, stop)
                job = Job(Order(ids, settings, request.logprobs, request.processed_logprobs), self._changed)
            yield Wanted(text, ids, seed, job)

    async def _echoes(self) -> AsyncIterator[Completion]:
        """The prompts, as the beginnings of the texts."""
        logprobs: list[TokenLogprobs] = []
        for index, wanted in enumerate(self._wanted):
            if self._request.logprobs is not None and index % self._request.n == 0:
                logprobs = []
                if wanted.prompt:  # the tokens of an empty prompt are not its own
                    async with self._in_time(), self._engine.scoring:
                        logprobs = await asyncio.to_thread(self._score, wanted.ids)
            echo = Piece(wanted.prompt, logprobs=logprobs, finish_reason=None if wanted.job else "length")
            yield self._part(index, echo, 0)

    def _score(self, ids: list[int]) -> list[TokenLogprobs]:
        found: list[TokenLogprobs] = []
        for about in score(self._engine.decoder, self._engine.tokenizer, ids, self._request.logprobs or 0):
            if self._is_unwanted.is_set():
                break
            found.append(about)
        return found

    @asynccontextmanager
    async def _in_time(self) -> AsyncGenerator[None]:
        try:
            if asyncio.get_running_loop().time() > self._deadline:
                raise TimeoutError
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError:
            raise RefusedError(504, "not done in time: ask for less", code="deadline_exceeded") from None

    def _part(self, index: int, piece: Piece, offset: int) -> Completion:
        seed = self._wanted[index].seed
        choice = Choice(index=index, text=piece.text, finish_reason=piece.finish_reason, seed=seed)
        if self._request.logprobs is not None:
            choice.logprobs = Logprobs(
                tokens=[about.token for about in piece.logprobs],
                token_logprobs=[about.logprob for about in piece.logprobs],
                top_logprobs=[about.top for about in piece.logprobs],
                text_offset=[about.offset + offset for about in piece.logprobs],
            )
        return Completion(**self._about, choices=[choice])


def encode(tokenizer: Tokenizer, text: str, on_unknown: OnUnknown, param: str = "prompt") -> tuple[str, list[int]]:
    """The text as the model can read it, and its tokens.

    Args:
        tokenizer: The model's.
        text: What was sent.
        on_unknown: What to do about characters that the model does not know.
        param: The field that it was sent in.

    Raises:
        RefusedError: It has a character that the model does not know, and that is an error.
    """
    if on_unknown != "error":
        text = tokenizer.handle_unknown(text, replace=on_unknown == "replace")
    try:
        return text, encode_prompt(tokenizer, text)
    except ValueError as error:
        raise RefusedError(400, f"{error}; on_unknown can skip or replace it", param, "unknown_character") from None


def decode(tokenizer: Tokenizer, ids: list[int]) -> tuple[str, list[int]]:
    """The text of some tokens, and these.

    Raises:
        RefusedError: The model has fewer tokens.
    """
    if max(ids) >= tokenizer.vocab_size:
        raise RefusedError(400, f"token {max(ids)} is not among the {tokenizer.vocab_size} of the model", "prompt")
    return tokenizer.decode(ids), ids
