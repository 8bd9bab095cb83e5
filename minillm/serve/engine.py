"""A model that answers requests: it knows the words here, and has its texts made by workers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from minillm.generation.load import load_numpy
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.serve.limits import Limits
from minillm.serve.logprobs import TokenLogprobs
from minillm.serve.worker import Order, Piece
from minillm.tokenizer import Tokenizer

MOST_NEWS = 2**26  # bytes of a line from a worker
END_SECONDS = 5.0  # that a worker may take to end


class Job:
    """A text that somebody waits for.

    Args:
        order: What is wanted.
        changed: Is set when there is something new; several jobs may share it.
    """

    def __init__(self, order: Order, changed: asyncio.Event) -> None:
        self.order, self.changed = order, changed
        self.num_tokens = 0
        self.is_lost = False  # nobody makes it any more
        self._news = Piece()

    def take(self) -> Piece:
        """What is new since the last time."""
        news, self._news = self._news, Piece()
        return news

    def add(self, piece: Piece) -> None:
        """There is something new."""
        self.num_tokens += piece.num_tokens
        self._news.text += piece.text
        self._news.logprobs += piece.logprobs
        self._news.finish_reason = piece.finish_reason
        self.changed.set()

    def lose(self) -> None:
        """There will be nothing new."""
        self.is_lost = True
        self.changed.set()


class WorkerProcess:
    """A worker, as seen from here.

    Args:
        process: What it runs in.
        orders: What it reads.
        news: What it writes.
    """

    def __init__(self, process: Process, orders: StreamWriter, news: StreamReader) -> None:
        self._process, self._orders = process, orders
        self.jobs: dict[int, Job] = {}
        self._numbers = itertools.count()
        self._listening = asyncio.create_task(self._listen(news))

    @classmethod
    async def start(cls, file: Path, max_batch_size: int) -> Self:
        """Begin, and wait until it has loaded the model.

        Raises:
            OSError: It cannot run.
        """
        environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        words = [sys.executable, "-P", "-m", "minillm.serve.worker", str(file.absolute()), str(max_batch_size)]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=PIPE, stdout=PIPE, env=environment, limit=MOST_NEWS
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if not await process.stdout.readline():
            await process.wait()
            raise OSError("a process for it does not start; the log says more")
        return cls(process, process.stdin, process.stdout)

    @property
    def is_alive(self) -> bool:
        """Whether it works."""
        return not self._listening.done()

    def submit(self, job: Job, context_length: int) -> None:
        """Have a text made."""
        if not self.is_alive:
            job.lose()
            return
        number = next(self._numbers)
        self.jobs[number] = job
        self._send(asdict(replace(job.order, number=number, prompt=job.order.prompt[-context_length:])))

    def drop(self, job: Job) -> None:
        """Do not make it, if it is in the making."""
        for number in [number for number, other in self.jobs.items() if other is job]:
            del self.jobs[number]
            self._send({"drop": number})

    def close(self) -> None:
        """Have it end soon, with what it does unfinished."""
        self._orders.close()

    async def closed(self) -> None:
        """Wait for its end, but not for long."""
        self.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._listening
        except TimeoutError:
            self._process.kill()
        await self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        self._orders.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, news: StreamReader) -> None:
        try:
            async for line in news:
                for number, about in json.loads(line).items():
                    if job := self.jobs.get(int(number)):
                        about["logprobs"] = [TokenLogprobs(**token) for token in about["logprobs"]]
                        job.add(Piece(**about))
                        if about["finish_reason"]:
                            del self.jobs[int(number)]
        finally:  # it was told to end, or has a defect, which the log shows
            for job in self.jobs.values():
                job.lose()
            self.jobs.clear()


class Engine:
    """A model that answers requests.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        workers: What makes its texts.
        written: When its checkpoint was written, in nanoseconds.
    """

    def __init__(
        self, decoder: NumpyDecoder, tokenizer: Tokenizer, workers: Sequence[WorkerProcess], written: int
    ) -> None:
        self.decoder, self.tokenizer, self.written = decoder, tokenizer, written
        self.scoring = asyncio.Semaphore()  # texts are read one at a time
        self._workers = workers

    @classmethod
    async def load(cls, file: Path, written: int, limits: Limits) -> Self:
        """Load a checkpoint.

        Args:
            file: The checkpoint.
            written: When, in nanoseconds.
            limits: How much to take on.

        Raises:
            ValueError: It cannot be used.
            OSError: It cannot be read, or a worker cannot run.
        """
        decoder, tokenizer, _ = await asyncio.to_thread(load_numpy, file)
        starting = [asyncio.create_task(WorkerProcess.start(file, size)) for size in limits.batch_sizes]
        await asyncio.wait(starting)
        if failed := [task.exception() for task in starting if task.exception()]:
            await asyncio.gather(*(task.result().closed() for task in starting if not task.exception()))
            raise OSError(str(failed[0]))
        return cls(decoder, tokenizer, [task.result() for task in starting], written)

    @property
    def num_texts(self) -> int:
        """Texts that are being made or wait for their turn."""
        return sum(len(worker.jobs) for worker in self._workers)

    @property
    def is_alive(self) -> bool:
        """Whether all workers work."""
        return all(worker.is_alive for worker in self._workers)

    def submit(self, job: Job) -> None:
        """Have a text made, by who has the least to do."""
        min(self._workers, key=lambda worker: len(worker.jobs)).submit(job, self.decoder.config.context_length)

    def drop(self, job: Job) -> None:
        """A text is not wanted any more."""
        for worker in self._workers:
            worker.drop(job)

    def close(self) -> None:
        """Have the workers end soon, with texts unfinished."""
        for worker in self._workers:
            worker.close()

    async def closed(self) -> None:
        """Wait for their end."""
        await asyncio.gather(*(worker.closed() for worker in self._workers))
