"""Parallel tokenization of long texts, chunk by chunk in a process pool."""

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from minillm.tokenizer import Tokenizer
from minillm.tokenizer.byte_pairs import pre_tokenize

Chunk = list[str]  # consecutive texts; an empty one marks the end of a document
_worker_function: Callable[[Any], Any]  # set in each worker process


def count_words(chunks: Iterable[Chunk], num_processes: int) -> Counter[str]:
    """Count the occurrences of each pre-token."""
    counts: Counter[str] = Counter()
    for chunk_counts in _parallel_map(_count_chunk, chunks, num_processes):
        counts.update(chunk_counts)
    return counts


def encode_chunks(
    chunks: Iterable[Chunk], num_processes: int, tokenizer: Tokenizer, dtype: np.dtype[Any]
) -> Iterator[bytes]:
    """Yield the token ids of each chunk, as the bytes of an array of type `dtype`."""
    return _parallel_map(partial(_encode_chunk, tokenizer, dtype), chunks, num_processes)


def _count_chunk(chunk: Chunk) -> Counter[str]:
    return Counter(word for text in chunk for word in pre_tokenize(text))


def _encode_chunk(tokenizer: Tokenizer, dtype: np.dtype[Any], chunk: Chunk) -> bytes:
    ids = [token for text in chunk for token in (tokenizer.encode(text) if text else tokenizer.end_of_text)]
    return np.array(ids, dtype).tobytes()


def _parallel_map(function: Callable[[Any], Any], items: Iterable[Any], num_processes: int) -> Iterator[Any]:
    """Map a function over items in a process pool, in order, with a bounded number of items in memory."""
    if num_processes == 1:
        yield from map(function, items)
        return
    pending: deque[Future[Any]] = deque()
    with ProcessPoolExecutor(num_processes, get_context("spawn"), _initialize_worker, (function,)) as pool:
        for item in items:
            pending.append(pool.submit(_call_worker_function, item))
            if len(pending) > 2 * num_processes:
                yield pending.popleft().result()
        yield from (future.result() for future in pending)


def _initialize_worker(function: Callable[[Any], Any]) -> None:
    global _worker_function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    _worker_function = function


def _call_worker_function(item: Any) -> Any:
    return _worker_function(item)
