"""Inference engine: a loaded model and the worker processes that generate its texts."""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.generation.load import Device, data_settings
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.training_text import TrainingText
from minillm.serve.limits import Limits
from minillm.serve.worker import TextDelta, TextRequest, run_worker

END_TIMEOUT_SECONDS = 5.0  # for a worker to end before it is killed

_errors = logging.getLogger("minillm.errors")


@dataclass(eq=False)
class PendingText:
    """Text that a request waits for.

    Args:
        prompt: Token ids.
        params: Sampling parameters.
        num_logprobs: As for `TextRequest`.
        processed_logprobs: As for `TextRequest`.
        changed: Event to set when there is a new delta; the texts of a request share it.
    """

    prompt: list[int]
    params: SamplingParams
    num_logprobs: int | None
    processed_logprobs: bool
    changed: asyncio.Event
    num_tokens: int = 0
    is_lost: bool = False  # the worker has ended
    _delta: TextDelta = field(default_factory=TextDelta)

    def take(self) -> TextDelta:
        """Return and clear what is new."""
        delta, self._delta = self._delta, TextDelta()
        return delta

    def add(self, delta: TextDelta) -> None:
        """Add a delta of the worker."""
        self.num_tokens += delta.num_tokens
        self._delta.text += delta.text
        self._delta.logprobs += delta.logprobs
        self._delta.finish_reason = delta.finish_reason
        self.changed.set()

    def lose(self) -> None:
        """Report that there will be no further delta."""
        self.is_lost = True
        self.changed.set()


class WorkerProcess:
    """Worker process, seen from the server.

    Args:
        process: The process.
        connection: Connection to it.
        on_end: Called in the event loop when it has ended.
    """

    def __init__(self, process: BaseProcess, connection: Connection, on_end: Callable[[Self], None]) -> None:
        self.process, self._connection, self._on_end = process, connection, on_end
        self.texts: dict[int, PendingText] = {}
        self.is_alive = True
        self._numbers = itertools.count()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._receive, args=(loop,), daemon=True).start()

    @classmethod
    async def start(
        cls, file: Path, max_batch_size: int, device: Device | None, on_end: Callable[[Self], None]
    ) -> Self:
        """Start a process, and wait until it has loaded the model.

        Raises:
            OSError: It cannot be started.
        """
        context = multiprocessing.get_context("spawn")
        connection, other = context.Pipe()
        arguments = other, file.absolute(), max_batch_size, device
        process = context.Process(target=run_worker, args=arguments, daemon=True)
        await asyncio.to_thread(process.start)
        other.close()
        try:
            await asyncio.to_thread(connection.recv)
        except EOFError:
            raise OSError("its worker process does not start: the log has the details") from None
        return cls(process, connection, on_end)

    def submit(self, text: PendingText, group: int, context_length: int) -> None:
        """Generate a text."""
        number = next(self._numbers)
        self.texts[number] = text
        settings = text.params, text.num_logprobs, text.processed_logprobs
        self._send(TextRequest(number, group, text.prompt[-context_length:], *settings))

    def cancel(self, text: PendingText) -> None:
        """Stop generating a text."""
        for number in [number for number, other in self.texts.items() if other is text]:
            del self.texts[number]
            self._send(number)

    def close(self) -> None:
        """End the process soon, without completing its texts."""
        self._send(None)

    async def closed(self) -> None:
        """Wait for the end of the process; kill it after a timeout."""
        self.close()
        await asyncio.to_thread(self.process.join, END_TIMEOUT_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            await asyncio.to_thread(self.process.join)
        self._end()

    def _send(self, message: TextRequest | int | None) -> None:
        with suppress(OSError):  # it has ended, which `_receive` notices
            self._connection.send(message)

    def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            with suppress(EOFError, OSError):
                while True:
                    loop.call_soon_threadsafe(self._deliver, self._connection.recv())
            loop.call_soon_threadsafe(self._end)

    def _deliver(self, deltas: dict[int, TextDelta]) -> None:
        for number, delta in deltas.items():
            if text := self.texts.get(number):
                text.add(delta)
                if delta.finish_reason:
                    del self.texts[number]

    def _end(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        for text in self.texts.values():
            text.lose()
        self.texts.clear()
        self._on_end(self)


class Engine:
    """Loaded model with its workers. A worker that ends unexpectedly is replaced, and only its texts are lost.

    Args:
        file: The checkpoint.
        modified_ns: Modification time of the checkpoint, in nanoseconds.
        checkpoint: Its content.
        device: Device of PyTorch in the workers; None for NumPy.
    """

    def __init__(self, file: Path, modified_ns: int, checkpoint: Checkpoint, device: Device | None) -> None:
        self.file, self.modified_ns, self._device = file, modified_ns, device
        self.decoder, self.tokenizer = NumpyDecoder(checkpoint.weights, checkpoint.config), checkpoint.tokenizer
        self.corpus, self.data = checkpoint.corpus_name, data_settings(checkpoint)
        self.training_text: TrainingText | None = None  # read at the first request
        self.lowest_val_loss = checkpoint.lowest_val_loss
        self.scoring = asyncio.Semaphore()  # texts are scored, and searched for, one at a time
        self.workers: list[WorkerProcess] = []
        self._groups = itertools.count()
        self._is_closing = False
        self._batch_sizes: dict[WorkerProcess, int] = {}
        self._replacing: set[asyncio.Task[None]] = set()

    @classmethod
    async def load(cls, file: Path, modified_ns: int, limits: Limits, device: Device | None = None) -> Self:
        """Load a checkpoint, and start its workers.

        Raises:
            ValueError: It is not a valid checkpoint.
            OSError: It cannot be read, or a worker cannot be started.
        """
        engine = await asyncio.to_thread(lambda: cls(file, modified_ns, read_checkpoint(file), device))
        started = await asyncio.gather(*map(engine._start_worker, limits.batch_sizes), return_exceptions=True)
        if failed := [result for result in started if isinstance(result, BaseException)]:
            await engine.closed()
            raise failed[0]
        return engine

    @property
    def num_texts(self) -> int:
        """Number of texts that are being generated or wait for it."""
        return sum(len(worker.texts) for worker in self.workers)

    @property
    def is_alive(self) -> bool:
        """Whether there is a worker."""
        return bool(self.workers)

    def submit(self, texts: Iterable[PendingText]) -> None:
        """Generate the texts of a request, each by the worker with the fewest texts."""
        group = next(self._groups)
        for text in texts:
            if self.workers:
                worker = min(self.workers, key=lambda worker: len(worker.texts))
                worker.submit(text, group, self.decoder.config.context_length)
            else:
                text.lose()

    def cancel(self, text: PendingText) -> None:
        """Stop generating a text."""
        for worker in self.workers:
            worker.cancel(text)

    def close(self) -> None:
        """End the workers soon, without completing their texts."""
        self._is_closing = True
        for worker in self.workers:
            worker.close()

    async def closed(self) -> None:
        """Wait for the end of the workers."""
        self.close()
        await asyncio.gather(*self._replacing)
        await asyncio.gather(*(worker.closed() for worker in [*self._batch_sizes]))

    async def _start_worker(self, max_batch_size: int) -> None:
        worker = await WorkerProcess.start(self.file, max_batch_size, self._device, self._remove_worker)
        self._batch_sizes[worker] = max_batch_size
        self.workers.append(worker)
        if self._is_closing:
            worker.close()

    def _remove_worker(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        if not self._is_closing:
            task = asyncio.create_task(self._replace_worker(worker))
            self._replacing.add(task)
            task.add_done_callback(self._replacing.discard)

    async def _replace_worker(self, worker: WorkerProcess) -> None:
        await worker.closed()
        code = worker.process.exitcode
        _errors.error("worker process %d of %s ended with exit code %s", worker.process.pid, self.file, code)
        try:
            await self._start_worker(self._batch_sizes.pop(worker))
        except OSError as error:
            _errors.error("no worker in its place: %s", error)
