"""Tokenizing long texts, piece by piece, in several processes."""

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

Piece = list[str]  # texts; an empty one stands for the end of a document
_work: Callable[[Any], Any]  # what this process does, where it is one of several


def count_words(pieces: Iterable[Piece], processes: int) -> Counter[str]:
    """How often which word stands in a text."""
    words: Counter[str] = Counter()
    for some in _in_order(_words, pieces, processes):
        words.update(some)
    return words


def encode(pieces: Iterable[Piece], processes: int, tokenizer: Tokenizer, dtype: np.dtype[Any]) -> Iterator[bytes]:
    """The token ids of piece after piece, as the bytes of an array."""
    return _in_order(partial(_ids, tokenizer, dtype), pieces, processes)


def _words(piece: Piece) -> Counter[str]:
    return Counter(word for text in piece for word in pre_tokenize(text))


def _ids(tokenizer: Tokenizer, dtype: np.dtype[Any], piece: Piece) -> bytes:
    ids = [token for text in piece for token in (tokenizer.encode(text) if text else tokenizer.end_of_text)]
    return np.array(ids, dtype).tobytes()


def _in_order(work: Callable[[Any], Any], items: Iterable[Any], processes: int) -> Iterator[Any]:
    """As map, in several processes; of a long row of items, a few at a time are in memory."""
    if processes == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Any]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (work,)) as pool:
        for item in items:
            waiting.append(pool.submit(_do, item))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    _work = work


def _do(item: Any) -> Any:
    return _work(item)
