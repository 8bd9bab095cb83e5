"""Worker process that generates texts; a process of its own, so that the GIL does not block the HTTP server.

From stdin it reads a line of JSON for each text that is wanted (an `Order`) or not any more (`{"drop": number}`); to
stdout it writes lines that say what is new: `Piece`s by the numbers of their texts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from minillm.generation.batch import ContinuousBatch, Sequence
from minillm.generation.load import load_numpy
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.text_stream import TextStream
from minillm.generation.threads import set_num_threads, useful_threads
from minillm.serve.logprobs import Pending, TokenLogprobs
from minillm.tokenizer import Tokenizer

PAUSE = 0.03  # seconds between two pieces of a text at least: nobody sees smaller ones
PIECES = 600  # a second of all texts together, as each takes its time to be sent


@dataclass(frozen=True)
class Order:
    """A text that is wanted.

    Args:
        prompt: Token ids to continue, at least 1.
        settings: How to choose, and when to stop.
        num_logprobs: How many of the likeliest tokens to report at each place; None: report nothing.
        processed: Whether what is reported is what the token was drawn from, rather than what the model said.
        number: What it is called by.
    """

    prompt: list[int]
    settings: SamplingParams
    num_logprobs: int | None
    processed: bool
    number: int = 0


@dataclass
class Piece:
    """What is new of a text.

    Args:
        text: Characters.
        num_tokens: Tokens that were made meanwhile.
        logprobs: How likely those were whose characters are in it.
        finish_reason: "stop" or "length", if the text has ended.
    """

    text: str = ""
    num_tokens: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    finish_reason: Literal["stop", "length"] | None = None


class Making:
    """A text in the making.

    Args:
        order: What is wanted.
        tokenizer: The model's.
    """

    def __init__(self, order: Order, tokenizer: Tokenizer) -> None:
        self.number = order.number
        self.row = Sequence(order.prompt, order.settings)
        self.num_tokens = 0
        self._most_tokens = order.settings.max_new_tokens
        self._text = TextStream(tokenizer, order.settings.stop)
        self._logprobs = (
            None
            if order.num_logprobs is None
            else Pending(tokenizer, order.settings, order.num_logprobs, order.processed)
        )

    def add(self, piece: Piece) -> None:
        """A token was made, the last one of the row's window: put what it brings into a piece."""
        token = self.row.window[-1]
        self.num_tokens += 1
        piece.num_tokens += 1
        text = self._text.add(token)
        if self._logprobs is not None:
            self._logprobs.add(token, self.row.logits)
        if self._text.ended:
            piece.finish_reason = "stop"
        elif self.num_tokens == self._most_tokens:
            text += self._text.finish()
            piece.finish_reason = "length"
        piece.text += text
        if self._logprobs is not None:
            piece.logprobs += self._logprobs.shown(len(text))


class Worker:
    """Makes the texts of one model, many at a time.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        max_batch_size: Most texts that grow at the same time; others wait for their turn.
    """

    def __init__(self, decoder: NumpyDecoder, tokenizer: Tokenizer, max_batch_size: int) -> None:
        self._tokenizer = tokenizer
        self._batch = ContinuousBatch(decoder, max_batch_size)
        self._waiting: dict[int, Making] = {}
        self._growing: dict[Sequence, Making] = {}
        self._news: dict[int, Piece] = {}
        self._urgent: set[int] = set()  # what begins or ends is told at once
        self._told_at = 0.0

    def run(self, inbox: SimpleQueue[dict[str, Any] | None]) -> Iterator[dict[int, Piece]]:
        """What is new, from time to time, until the inbox says that no more orders come.

        Args:
            inbox: Orders and what is not wanted any more, as they come; None ends the work.
        """
        while True:
            while not inbox.empty() or not (self._growing or self._waiting):
                message = inbox.get()
                if message is None:
                    return
                self._take(message)
            for number in list(self._waiting)[: self._batch.capacity - len(self._batch)]:
                making = self._waiting.pop(number)
                self._growing[making.row] = making
                self._batch.add(making.row)
            for row in self._batch.step():
                self._grow(self._growing[row])
            if ready := self._ready():
                yield ready

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("drop")
        if number is None:
            arguments: dict[str, Any] = {**message, "settings": SamplingParams(**message["settings"])}
            order = Order(**arguments)
            self._waiting[order.number] = Making(order, self._tokenizer)
        else:
            self._waiting.pop(number, None)
            self._news.pop(number, None)
            for making in [making for making in self._growing.values() if making.number == number]:
                self._end(making)

    def _grow(self, making: Making) -> None:
        piece = self._news.setdefault(making.number, Piece())
        making.add(piece)
        if making.num_tokens == 1 or piece.finish_reason:
            self._urgent.add(making.number)
        if piece.finish_reason:
            self._end(making)

    def _end(self, making: Making) -> None:
        self._batch.remove(making.row)
        del self._growing[making.row]

    def _ready(self) -> dict[int, Piece]:
        """What is to be told now."""
        now = time.monotonic()
        if now - self._told_at > max(PAUSE, len(self._growing) / PIECES):
            self._told_at, ready, self._news = now, self._news, {}
        else:
            ready = {number: self._news.pop(number) for number in self._urgent}
        self._urgent.clear()
        return ready


def main() -> None:
    """Work for the process that started this one, until it closes stdin or is no more."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # they are meant for that process, which ends this one in its time
    decoder, tokenizer, _ = load_numpy(Path(sys.argv[1]))
    set_num_threads(useful_threads(decoder.config))
    worker = Worker(decoder, tokenizer, int(sys.argv[2]))
    inbox: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(inbox,), daemon=True).start()
    try:
        _tell({})  # ready
        for news in worker.run(inbox):
            _tell(news)
    except Exception as error:
        if not isinstance(error, BrokenPipeError):  # nobody is there any more
            traceback.print_exc()
        os._exit(1)  # an orderly end would wait for the thread that listens


def _listen(inbox: SimpleQueue[dict[str, Any] | None]) -> None:
    for line in sys.stdin.buffer:
        inbox.put(json.loads(line))
    inbox.put(None)


def _tell(news: dict[int, Piece]) -> None:
    sys.stdout.write(json.dumps(news, default=asdict) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
