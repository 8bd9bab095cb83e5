"""Tokenize a corpus of any size into a cached, memory-mapped file of token ids."""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress

from minillm.cpus import usable_cpus
from minillm.data.corpus import TRAIN_FRACTION, Document, cache_folder, open_documents, sha256_of_text
from minillm.data.token_file import TokenFile
from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer, tokenizer_from_state
from minillm.tokenizer.byte_pairs import last_boundary
from minillm.tokenizer.parallel import Chunk, count_words, encode_chunks

FORMAT_VERSION = 1  # of the cache; corpora cached in another version are prepared again
CHUNK_CHARS = 2**20  # characters tokenized per task
PARALLEL_THRESHOLD_BYTES = 2**24  # size from which several processes and a progress bar are worthwhile
NOT_LOADABLE = (OSError, ValueError, KeyError, TypeError)  # raised for a cache entry that is missing or corrupted
ABANDONED_AFTER_SECONDS = 24 * 3600  # age at which the process of a staging folder is considered killed


class TokenizedSplit(NamedTuple):
    """A split of a tokenized corpus, and its length in characters."""

    tokens: TokenFile
    num_chars: int


class TokenizedCorpus(NamedTuple):
    """A tokenized corpus: the SHA-256 of its text, its training split, its validation split and both together."""

    sha256: str
    tokenizer: Tokenizer
    train: TokenizedSplit
    val: TokenizedSplit
    whole: TokenizedSplit


def prepare(
    corpus: str, tokenizer: Tokenizer | None = None, vocab_size: int | None = None, grow: bool = False
) -> TokenizedCorpus:
    """Tokenize a corpus, or load its token ids from the cache.

    The cache entry is a folder below `cache_folder()`, named by a hash of the documents and the tokenization. It
    appears atomically: token ids are written to a staging folder, which is renamed when complete.

    Args:
        corpus: As for `open_documents`.
        tokenizer: Existing tokenizer; by default one is trained on the training split or built from the characters.
        vocab_size: Vocabulary size of a new byte-pair tokenizer; None builds a character tokenizer.
        grow: Whether to extend the existing tokenizer with the characters of the corpus that it lacks.

    Returns:
        The token ids, memory-mapped, and their tokenizer.

    Raises:
        ValueError: The corpus cannot be read, is too short for this vocab_size, or has a character that the tokenizer
            lacks.
        OSError: The token ids cannot be written, such as when the disk is full.
    """
    documents = open_documents(corpus)
    tokenization = tokenizer.state if tokenizer else vocab_size
    text_sha256 = sha256_of_text(documents)
    content = f"{json.dumps([FORMAT_VERSION, tokenization, grow])}\n{text_sha256}"
    cache, entry = cache_folder(), hashlib.sha256(content.encode()).hexdigest()
    folder, lock = cache / "tokens" / entry, cache / "locks" / f"{entry}.lock"
    with suppress(*NOT_LOADABLE):
        return _load(folder, text_sha256)
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(exist_ok=True)
        _remove_abandoned(folder.parent)
    writable = all(os.access(path.parent, os.W_OK) for path in (folder, lock))  # if not, the token ids are temporary
    with ExitStack() as stack:
        if writable:
            stack.enter_context(_hold(FileLock(lock), corpus))
            with suppress(*NOT_LOADABLE):  # another process has tokenized it meanwhile
                return _load(folder, text_sha256)
            rmtree(folder, ignore_errors=True)  # it is corrupted
        staging = tempfile.TemporaryDirectory(dir=folder.parent if writable else None, prefix=".")
        tokenized = Path(stack.enter_context(staging), "tokenized")
        tokenized.mkdir()
        with _errors_of(corpus, tokenized):
            _tokenize(documents, tokenizer, vocab_size, grow, tokenized)
        return _load(tokenized.rename(folder) if writable else tokenized, text_sha256)


@contextmanager
def _hold(lock: FileLock, corpus: str) -> Generator[None]:
    """Hold the lock of a cache entry, which ends with the process; say so on stderr if another process holds it."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process, which is tokenizing corpus {corpus!r}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _errors_of(corpus: str, folder: Path) -> Generator[None]:
    """Name the corpus in errors of its content, and the folder in errors of writing to it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"corpus {corpus!r}: {error}") from error
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise


def _tokenize(
    documents: list[Document], tokenizer: Tokenizer | None, vocab_size: int | None, grow: bool, folder: Path
) -> None:
    """Tokenize documents into `tokens.bin` and `about.json`."""
    size_bytes = sum(document.size for document in documents)
    num_processes = usable_cpus() if size_bytes >= PARALLEL_THRESHOLD_BYTES else 1
    with Progress(console=Console(stderr=True), disable=size_bytes < PARALLEL_THRESHOLD_BYTES) as progress:
        num_chars, alphabet = 0, set[str]()
        for segment in _track(progress, "reading", _segments(documents), size_bytes):
            num_chars += len(segment)
            if grow or (tokenizer is None and vocab_size is None):
                alphabet.update(segment)
        num_train_chars = int(TRAIN_FRACTION * num_chars)
        if tokenizer is None and vocab_size is not None:
            segments = _split_at(_segments(documents), num_train_chars)
            chunks = _chunks(_track(progress, "counting words", segments, num_train_chars), num_train_chars)
            tokenizer = BytePairTokenizer.from_word_counts(count_words(chunks, num_processes), vocab_size)
        tokenizer = tokenizer.extended(alphabet) if tokenizer else CharTokenizer("".join(sorted(alphabet)))
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        segments = _track(progress, "tokenizing", _split_at(_segments(documents), num_train_chars), num_chars)
        split_chars = {"train": num_train_chars, "val": num_chars - num_train_chars}
        split_tokens: dict[str, int] = {}
        about = {"tokenizer": tokenizer.state, "dtype": dtype.name, "characters": split_chars, "tokens": split_tokens}
        with (folder / "tokens.bin").open("wb") as file:
            for name, length in split_chars.items():
                ids = encode_chunks(_chunks(segments, length), num_processes, tokenizer, dtype)
                split_tokens[name] = sum(map(file.write, ids)) // dtype.itemsize
            file.flush()
            os.fsync(file.fileno())
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _load(folder: Path, text_sha256: str) -> TokenizedCorpus:
    """Load a tokenized corpus from the cache.

    Raises:
        One of NOT_LOADABLE: It is not cached, or the files are corrupted.
    """
    about = json.loads((folder / "about.json").read_text("utf-8"))
    file, dtype, (train, val) = folder / "tokens.bin", np.dtype(about["dtype"]), about["tokens"].values()
    if file.stat().st_size != (train + val) * dtype.itemsize:
        raise ValueError(f"{file} is truncated or corrupted")
    num_chars = about["characters"]["train"], about["characters"]["val"]
    return TokenizedCorpus(
        text_sha256,
        tokenizer_from_state(about["tokenizer"]),
        train=TokenizedSplit(TokenFile(file, dtype, 0, train), num_chars[0]),
        val=TokenizedSplit(TokenFile(file, dtype, train, train + val), num_chars[1]),
        whole=TokenizedSplit(TokenFile(file, dtype, 0, train + val), sum(num_chars)),
    )


def _remove_abandoned(folder: Path) -> None:
    """Remove the staging folders of killed processes."""
    for staging in folder.glob(".*"):
        if time.time() - staging.stat().st_mtime > ABANDONED_AFTER_SECONDS:
            rmtree(staging, ignore_errors=True)


def _segments(documents: list[Document]) -> Iterator[str]:
    """Split documents at word boundaries into segments of about CHUNK_CHARS; an empty segment ends each document."""
    for document in documents:
        rest = ""
        for text in document.read(CHUNK_CHARS):
            rest += text
            boundary = last_boundary(rest)
            yield rest[:boundary]
            rest = rest[boundary:]
        if rest:
            yield rest
        yield ""


def _split_at(segments: Iterable[str], position: int) -> Iterator[str]:
    """Split segments so that none spans a position, in characters from the start of the first one."""
    for segment in segments:
        if 0 < position < len(segment):
            yield segment[:position]
            yield segment[position:]
        else:
            yield segment
        position -= len(segment)


def _chunks(segments: Iterator[str], num_chars: int) -> Iterator[Chunk]:
    """Group segments into chunks of at least CHUNK_CHARS characters, taking `num_chars` characters in total."""
    chunk, chunk_chars = Chunk(), 0
    while num_chars > 0:
        segment = next(segments)
        chunk.append(segment)
        chunk_chars, num_chars = chunk_chars + len(segment), num_chars - len(segment)
        if chunk_chars >= CHUNK_CHARS or num_chars == 0:
            yield chunk
            chunk, chunk_chars = Chunk(), 0


def _track(progress: Progress, description: str, segments: Iterable[str], total: int) -> Iterator[str]:
    """Show the progress of an iteration over segments, counted in characters."""
    task = progress.add_task(description, total=total)
    for segment in segments:
        yield segment
        progress.advance(task, len(segment))
