"""Generation of many texts in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType

from minillm.generation.batch_generator import Batch, BatchGenerator, Chunk
from minillm.generation.decoder import InferenceDecoder
from minillm.generation.generate import generate_batch
from minillm.generation.sampling_params import SamplingParams
from minillm.tokenizer import Tokenizer


class ProcessPoolGenerator(BatchGenerator):
    """Generator of several batches of texts at the same time: the first in this process, the others in a process pool.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        num_processes: Number of processes, with this one; at least 2.
    """

    def __init__(self, decoder: InferenceDecoder, tokenizer: Tokenizer, num_processes: int) -> None:
        super().__init__(decoder, tokenizer)
        self.num_processes = num_processes
        # a forked process has the model and the imported modules; elsewhere, forking is not safe
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        receiver, self._sender = context.Pipe(duplex=False)
        arguments = (*self.model, receiver, self._sender)
        self._executor = ProcessPoolExecutor(num_processes - 1, context, _start_worker, arguments)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the processes, without waiting for their texts."""
        self._sender.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def generate(self, batches: Sequence[Batch], settings: SamplingParams) -> Iterator[Iterator[Chunk]]:
        """Generate up to `num_processes` batches; the chunks of the first are streamed, the others are whole texts."""
        first, *others = batches
        futures = [self._submit(batch, settings) for batch in others]
        yield from super().generate([first], settings)
        for batch, future in zip(others, futures, strict=True):
            try:
                yield iter(enumerate(future.result()))
            except BrokenExecutor:  # a process was killed
                yield from super().generate([batch], settings)

    def _submit(self, batch: Batch, settings: SamplingParams) -> Future[list[str]]:
        try:
            return self._executor.submit(_generate, batch, settings)
        except BrokenExecutor as error:
            failed = Future[list[str]]()
            failed.set_exception(error)
            return failed


_model: tuple[InferenceDecoder, Tokenizer]  # of a worker process


def _start_worker(decoder: InferenceDecoder, tokenizer: Tokenizer, receiver: Connection, sender: Connection) -> None:
    """Keep the model in a worker process, which ends when its parent closes the pipe or ends, and at Ctrl-C.

    Args:
        decoder, tokenizer: The model.
        receiver: End of the pipe on which nothing is sent.
        sender: The other end, which the process may have inherited.
    """
    global _model
    _model = decoder, tokenizer
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback
    sender.close()
    threading.Thread(target=_end_with_pipe, args=(receiver,), daemon=True).start()


def _end_with_pipe(receiver: Connection) -> None:
    with suppress(EOFError, OSError):
        receiver.recv()
    os._exit(1)


def _generate(batch: Batch, settings: SamplingParams) -> list[str]:
    """Generate a batch in a worker process."""
    texts = [""] * len(batch.seeds)
    for index, chunk in generate_batch(*_model, batch.prompt, settings, batch.seeds):
        texts[index] += chunk
    return texts
