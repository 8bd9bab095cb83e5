"""Worker process: continuous batching of the texts of one model, so that the GIL does not block the HTTP server."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from minillm.generation.batch import MAX_PREFILLS_PER_STEP, ContinuousBatch, Sequence
from minillm.generation.decoder import InferenceDecoder
from minillm.generation.load import Device, load_numpy, load_torch
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.text_stream import TextStream
from minillm.generation.threads import set_num_threads, useful_threads
from minillm.serve.logprobs import PendingLogprobs, TokenLogprobs
from minillm.tokenizer import Tokenizer

DELTA_INTERVAL_SECONDS = 0.03  # between two deltas of a text: a reader sees no smaller ones
MAX_DELTAS_PER_SECOND = 600  # of all texts, since each takes time to send
TURN_TOKENS = 128  # after which a text may have to wait for one of another request


@dataclass(frozen=True)
class TextRequest:
    """Text to generate.

    Args:
        number: Identifies the text.
        group: Identifies the HTTP request that it belongs to; groups take fair turns.
        prompt: Token ids, at least 1.
        params: Sampling parameters.
        num_logprobs: Number of most probable tokens to report at each position; None reports nothing.
        processed_logprobs: Report the distribution that the token was drawn from instead of the model's.
    """

    number: int
    group: int
    prompt: list[int]
    params: SamplingParams
    num_logprobs: int | None
    processed_logprobs: bool


@dataclass
class TextDelta:
    """New part of a text.

    Args:
        text: Characters.
        num_tokens: Number of tokens that were generated.
        logprobs: Log probabilities of the tokens whose characters are complete.
        finish_reason: `stop` or `length`, if the text is complete.
    """

    text: str = ""
    num_tokens: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    finish_reason: Literal["stop", "length"] | None = None


Message = TextRequest | int | None  # a text to generate, the number of one to cancel, or the end
Inbox = SimpleQueue[Message]


class ActiveText:
    """State of a text that is being generated or waits for its turn.

    Args:
        request: The request.
        tokenizer: Tokenizer of the model.
    """

    def __init__(self, request: TextRequest, tokenizer: Tokenizer) -> None:
        self.number, self.group = request.number, request.group
        self.sequence = Sequence(request.prompt, request.params)
        self.num_tokens = self.turn_start = 0
        self._max_tokens = request.params.max_new_tokens
        self._stream = TextStream(tokenizer, request.params.stop)
        self._logprobs = None
        if request.num_logprobs is not None:
            count, processed = request.num_logprobs, request.processed_logprobs
            self._logprobs = PendingLogprobs(tokenizer, request.params, count, processed)

    def add_token(self, delta: TextDelta) -> None:
        """Add the newest token of the sequence to a delta."""
        token = self.sequence.window[-1]
        self.num_tokens += 1
        delta.num_tokens += 1
        text = self._stream.add(token)
        if self._logprobs is not None:
            self._logprobs.add(token, self.sequence.logits)
        if self._stream.ended:
            delta.finish_reason = "stop"
        elif self.num_tokens == self._max_tokens:
            text += self._stream.finish()
            delta.finish_reason = "length"
        delta.text += text
        if self._logprobs is not None:
            delta.logprobs += self._logprobs.take(len(text))


class Worker:
    """Generator of the texts of one model.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        max_batch_size: Maximum number of texts that are generated at the same time.
    """

    def __init__(self, decoder: InferenceDecoder, tokenizer: Tokenizer, max_batch_size: int) -> None:
        self._tokenizer = tokenizer
        self._batch = ContinuousBatch(decoder, max_batch_size)
        self._waiting: list[ActiveText] = []
        self._running: dict[Sequence, ActiveText] = {}
        self._deltas: dict[int, TextDelta] = {}
        self._urgent: set[int] = set()  # texts that start or end, which are reported at once
        self._reported_at = 0.0

    def run(self, inbox: Inbox) -> Iterator[dict[int, TextDelta]]:
        """Generate texts until the inbox has None; yield deltas by the numbers of their texts.

        Args:
            inbox: Messages, in the order of their arrival.
        """
        while True:
            while not inbox.empty() or not (self._running or self._waiting):
                message = inbox.get()
                if message is None:
                    return
                if isinstance(message, TextRequest):
                    self._waiting.append(ActiveText(message, self._tokenizer))
                else:
                    self._cancel(message)
            self._schedule()
            for sequence in self._batch.step():
                self._add_token(self._running[sequence])
            if deltas := self._take_deltas():
                yield deltas

    def _schedule(self) -> None:
        """Start waiting texts: in free places, and in place of texts of groups that have more than their share."""
        for _ in range(MAX_PREFILLS_PER_STEP):
            if not self._waiting:
                return
            counts = Counter(text.group for text in self._running.values())
            candidate = min(self._waiting, key=lambda text: counts[text.group])  # the first of the smallest group
            if len(self._batch) == self._batch.capacity:
                preempted = self._find_preemptible(counts, counts[candidate.group])
                if preempted is None:
                    return
                self._batch.preempt(preempted.sequence)  # its cache is computed again at its next turn
                del self._running[preempted.sequence]
                self._waiting.append(preempted)
            self._waiting.remove(candidate)
            candidate.turn_start = candidate.num_tokens
            self._running[candidate.sequence] = candidate
            self._batch.add(candidate.sequence)

    def _find_preemptible(self, counts: Counter[int], share: int) -> ActiveText | None:
        """Find the text with the longest turn in a group that runs more than one text more than a waiting group.

        After `TURN_TOKENS`, one text more is enough.
        """
        longest = max(
            (text for text in self._running.values() if counts[text.group] > share),
            key=lambda text: (counts[text.group] > share + 1, text.num_tokens - text.turn_start),
            default=None,
        )
        if longest is None:
            return None
        is_fair = counts[longest.group] == share + 1 and longest.num_tokens - longest.turn_start < TURN_TOKENS
        return None if is_fair else longest

    def _cancel(self, number: int) -> None:
        self._deltas.pop(number, None)
        self._waiting = [text for text in self._waiting if text.number != number]
        for text in [text for text in self._running.values() if text.number == number]:
            self._stop(text)

    def _add_token(self, text: ActiveText) -> None:
        delta = self._deltas.setdefault(text.number, TextDelta())
        text.add_token(delta)
        if text.num_tokens == 1 or delta.finish_reason:
            self._urgent.add(text.number)
        if delta.finish_reason:
            self._stop(text)

    def _stop(self, text: ActiveText) -> None:
        self._batch.remove(text.sequence)
        del self._running[text.sequence]

    def _take_deltas(self) -> dict[int, TextDelta]:
        """Return the deltas to report now."""
        now = time.monotonic()
        if now - self._reported_at > max(DELTA_INTERVAL_SECONDS, len(self._running) / MAX_DELTAS_PER_SECOND):
            self._reported_at, deltas, self._deltas = now, self._deltas, {}
        else:
            deltas = {number: self._deltas.pop(number) for number in self._urgent}
        self._urgent.clear()
        return deltas


def run_worker(connection: Connection, file: Path, max_batch_size: int, device: Device | None) -> None:
    """Run a worker as the main function of a process: send {} when the model is loaded, and then deltas.

    Args:
        connection: Connection to the server process; the worker ends when it is closed.
        file: Checkpoint of the model.
        max_batch_size: As for `Worker`.
        device: Device of PyTorch; None for NumPy.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the server ends its workers after the last response
    decoder, tokenizer, _ = load_torch(file, device) if device else load_numpy(file)
    if device is None:
        set_num_threads(useful_threads(decoder.config))
    inbox: Inbox = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    try:
        connection.send({})
        for deltas in Worker(decoder, tokenizer, max_batch_size).run(inbox):
            connection.send(deltas)
    except BrokenPipeError:
        pass  # the server has ended


def _receive(connection: Connection, inbox: Inbox) -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        inbox.put(None)
