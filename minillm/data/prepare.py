"""Tokenize a corpus of any size into a cached, memory-mapped file of token ids."""

import hashlib
import json
import os
import sys
import tempfile
import time
from array import array
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress

from minillm.cpus import usable_cpus
from minillm.data.corpus import DEFAULT_FORMAT, Corpus, open_corpus, split_position
from minillm.data.named_corpora import cache_folder
from minillm.data.segments import group_segments, read_segments, split_at
from minillm.data.text_checks import TextCheck
from minillm.data.text_files import END_OF_DOCUMENT, TextFormat
from minillm.data.token_file import TokenFile
from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer, tokenizer_from_state
from minillm.tokenizer.parallel import count_words, encode_chunks

FORMAT_VERSION = 2  # of the cache; corpora cached in another version are prepared again
PARALLEL_THRESHOLD_BYTES = 2**24  # size from which several processes and a progress bar are worthwhile
NOT_LOADABLE = (OSError, ValueError, KeyError, TypeError)  # raised for a cache entry that is missing or corrupted
ABANDONED_AFTER_SECONDS = 24 * 3600  # age at which the process of a staging folder is considered killed


class TokenizedSplit(NamedTuple):
    """A split of a tokenized corpus, and its length in characters."""

    tokens: TokenFile
    num_chars: int


class TokenizedCorpus(NamedTuple):
    """A tokenized corpus: the SHA-256 of its text, its training split, its validation split and both together.

    `warnings` are the problems that `TextCheck` has found, in one line each.
    """

    sha256: str
    tokenizer: Tokenizer
    train: TokenizedSplit
    val: TokenizedSplit
    whole: TokenizedSplit
    warnings: list[str]


def prepare(
    corpus: str,
    tokenizer: Tokenizer | None = None,
    vocab_size: int | None = None,
    grow: bool = False,
    text_format: TextFormat = DEFAULT_FORMAT,
) -> TokenizedCorpus:
    """Tokenize a corpus, or load its token ids from the cache.

    The cache entry is a folder below `cache_folder()`, named by a hash of the text and its tokenization. It appears
    atomically: token ids are written to a staging folder, which is renamed when complete.

    Args:
        corpus: As for `open_corpus`.
        tokenizer: Existing tokenizer; by default one is trained on the training split or built from the characters.
        vocab_size: Vocabulary size of a new byte-pair tokenizer; None builds a character tokenizer.
        grow: Whether to extend the existing tokenizer with the characters of the corpus that it lacks, and with an
            end-of-text token for documents.
        text_format: Format of the files.

    Returns:
        The token ids, memory-mapped, and their tokenizer.

    Raises:
        ValueError: The corpus cannot be read, is too short for this vocab_size, or has a character that the tokenizer
            lacks.
        OSError: The token ids cannot be written, such as when the disk is full.
    """
    text = open_corpus(corpus, text_format)
    text_sha256 = _sha256(text)
    entry = _cache_entry(text, text_sha256, tokenizer.state if tokenizer else vocab_size, grow)
    folder, lock = cache_folder() / "tokens" / entry, cache_folder() / "locks" / f"{entry}.lock"
    with suppress(*NOT_LOADABLE):
        return _load(folder, text_sha256)
    writable = _create_folders(folder.parent, lock.parent)  # if not, the token ids are temporary
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
            about = _tokenize(text, tokenizer, vocab_size, grow, tokenized / "tokens.bin")
            (tokenized / "about.json").write_text(json.dumps(about), encoding="utf-8")
        return _load(tokenized.rename(folder) if writable else tokenized, text_sha256)


def _sha256(text: Corpus) -> str:
    """Return the SHA-256 of a text.

    Raises:
        ValueError: A file cannot be read; the message also names the other files that cannot be used.
    """
    try:
        return text.sha256()
    except ValueError:
        deque(text.read_checked(TextCheck()), maxlen=0)
        raise


def _create_folders(tokens: Path, locks: Path) -> bool:
    """Create the folders of the cache and clean them up; return whether they are writable."""
    with suppress(OSError):
        tokens.mkdir(parents=True, exist_ok=True)
        locks.mkdir(exist_ok=True)
        _remove_abandoned(tokens)
    return all(os.access(folder, os.W_OK) for folder in (tokens, locks))


def _cache_entry(text: Corpus, text_sha256: str, tokenization: dict[str, Any] | int | None, grow: bool) -> str:
    """Return the name of a cache entry: a hash of all that the token ids depend on."""
    text_format = asdict(text.text_format), [source.is_json_lines for source in text.sources]
    key = json.dumps([FORMAT_VERSION, tokenization, grow, *text_format])
    return hashlib.sha256(f"{key}\n{text_sha256}".encode()).hexdigest()


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
    text: Corpus, tokenizer: Tokenizer | None, vocab_size: int | None, grow: bool, path: Path
) -> dict[str, Any]:
    """Tokenize a text into a file of token ids, and return what `_load` needs to know about it."""
    num_processes = usable_cpus() if text.size >= PARALLEL_THRESHOLD_BYTES else 1
    with Progress(console=Console(stderr=True), disable=text.size < PARALLEL_THRESHOLD_BYTES) as progress:
        check, document_ends = TextCheck(), array("Q")
        for chunk in _track(progress, "reading", text.read_checked(check), text.size):
            if chunk == END_OF_DOCUMENT:
                document_ends.append(check.num_chars)
        if not check.num_chars:
            raise ValueError("it is empty: pass one that contains text")
        num_train_chars = split_position(check.num_chars, document_ends)
        if tokenizer is None and vocab_size is not None:
            segments = split_at(read_segments(text), num_train_chars)
            chunks = group_segments(_track(progress, "counting words", segments, num_train_chars), num_train_chars)
            tokenizer = BytePairTokenizer.from_word_counts(count_words(chunks, num_processes), vocab_size)
            tokenizer = _new_tokenizer(tokenizer, check, text.has_documents)
        elif tokenizer is None:
            tokenizer = _new_tokenizer(CharTokenizer("".join(sorted(check.alphabet))), check, text.has_documents)
        else:
            tokenizer = _existing_tokenizer(tokenizer, check, text.has_documents, grow)
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        segments = _track(progress, "tokenizing", split_at(read_segments(text), num_train_chars), check.num_chars)
        split_chars = {"train": num_train_chars, "val": check.num_chars - num_train_chars}
        ends_document = {"train": num_train_chars in document_ends, "val": text.has_documents}
        split_tokens: dict[str, int] = {}
        with path.open("wb") as file:
            for name, length in split_chars.items():
                chunks = group_segments(segments, length, ends_document[name])
                ids = encode_chunks(chunks, num_processes, tokenizer, dtype)
                split_tokens[name] = sum(map(file.write, ids)) // dtype.itemsize
            file.flush()
            os.fsync(file.fileno())
    facts = {"dtype": dtype.name, "characters": split_chars, "tokens": split_tokens, "warnings": check.messages()}
    return {"tokenizer": tokenizer.state, **facts}


def _new_tokenizer(tokenizer: Tokenizer, check: TextCheck, has_documents: bool) -> Tokenizer:
    """Add what a new tokenizer has to know about its training text."""
    if check.normal_form is not None:
        tokenizer = tokenizer_from_state({**tokenizer.state, "normal_form": check.normal_form})
    return tokenizer.with_documents() if has_documents else tokenizer


def _existing_tokenizer(tokenizer: Tokenizer, check: TextCheck, has_documents: bool, grow: bool) -> Tokenizer:
    """Extend an existing tokenizer by what it lacks, if it may grow.

    Raises:
        ValueError: It has no token that ends documents, and must not grow.
    """
    if grow:
        tokenizer = tokenizer.extended(check.alphabet)
        if check.normal_form is not None:
            tokenizer = tokenizer_from_state({**tokenizer.state, "normal_form": check.normal_form})
        return tokenizer.with_documents() if has_documents else tokenizer
    if has_documents and not tokenizer.start_of_text:
        raise ValueError("the tokenizer has no token that ends documents: pass --data.documents none")
    return tokenizer


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
        warnings=about["warnings"],
    )


def _remove_abandoned(folder: Path) -> None:
    """Remove the staging folders of killed processes."""
    for staging in folder.glob(".*"):
        if time.time() - staging.stat().st_mtime > ABANDONED_AFTER_SECONDS:
            rmtree(staging, ignore_errors=True)


def _track(progress: Progress, description: str, segments: Iterable[str], total: int) -> Iterator[str]:
    """Show the progress of an iteration over segments, counted in characters."""
    task = progress.add_task(description, total=total)
    for segment in segments:
        yield segment
        progress.advance(task, len(segment))
