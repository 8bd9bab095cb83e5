"""A text becomes a file of token ids: once, however long it is."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from minillm.data.corpus import TRAIN_FRACTION, Document, cache_folder, open_documents
from minillm.data.token_file import TokenFile
from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer, tokenizer_from_state
from minillm.tokenizer.byte_pairs import last_boundary
from minillm.tokenizer.parallel import Piece, count_words, encode

FORMAT = 1  # of what is kept: another one is prepared anew
PIECE = 2**20  # characters that are tokenized together
LONG = 2**24  # characters: from here on it is worth several processes and a progress bar
ABANDONED = 24 * 3600  # seconds after which a preparation is thought to have been killed


class TokenizedSplit(NamedTuple):
    """A part of a prepared text."""

    tokens: TokenFile
    characters: int


class TokenizedCorpus(NamedTuple):
    """A text as token ids: for training, for validation and whole."""

    tokenizer: Tokenizer
    train: TokenizedSplit
    val: TokenizedSplit
    whole: TokenizedSplit


def prepare(
    corpus: str, tokenizer: Tokenizer | None = None, vocab_size: int | None = None, grow: bool = False
) -> TokenizedCorpus:
    """The token ids of a corpus, found again if they were made before.

    They are kept below `cache_folder()`, in a folder named after the content of the corpus and the way of tokenizing.
    Until they are all there, there is no such folder.

    Args:
        corpus: As for `open_documents`.
        tokenizer: How text becomes tokens; by default a new one is made for this text.
        vocab_size: Tokens of the new one, which learns byte pairs; None: it knows the characters of the text.
        grow: Whether the tokenizer that is given takes up the characters that it does not know.

    Raises:
        ValueError: The corpus cannot be had, or the tokenizer does not know a character of it, or it is too short to
            learn that many tokens of.
        OSError: The disk is full.
    """
    documents = open_documents(corpus)
    how = tokenizer.state if tokenizer else vocab_size
    content = [json.dumps([FORMAT, how, grow]), *(document.sha256() for document in documents)]
    folder = cache_folder() / "tokens" / hashlib.sha256("\n".join(content).encode()).hexdigest()
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _found(folder)
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
    writable = os.access(folder.parent, os.W_OK)  # if not, this run alone has them
    with tempfile.TemporaryDirectory(dir=folder.parent if writable else None, prefix=".") as staging:
        made = Path(staging, "made")
        made.mkdir()
        try:
            _make(documents, tokenizer, vocab_size, grow, made)
        except ValueError as error:
            raise ValueError(f"corpus {corpus!r}: {error}") from error
        if writable:
            rmtree(folder, ignore_errors=True)  # it was damaged
            with suppress(OSError):  # another process was faster
                made.rename(folder)
            made = folder
        return _found(made)


def _make(
    documents: list[Document], tokenizer: Tokenizer | None, vocab_size: int | None, grow: bool, folder: Path
) -> None:
    """Tokenize documents, into `tokens.bin` and `about.json`."""
    size = sum(document.size for document in documents)
    processes = (os.cpu_count() or 1) if size >= LONG else 1
    with Progress(console=Console(stderr=True), disable=size < LONG) as progress:
        characters, alphabet = 0, set[str]()
        for text in _shown(progress, "reading", _texts(documents), size):
            characters += len(text)
            if grow or (tokenizer is None and vocab_size is None):
                alphabet.update(text)
        split = int(TRAIN_FRACTION * characters)
        if tokenizer is None and vocab_size is not None:
            texts = _shown(progress, "learning words", _cut(_texts(documents), split), split)
            tokenizer = BytePairTokenizer.from_words(count_words(_pieces(texts, split), processes), vocab_size)
        tokenizer = tokenizer.extended(alphabet) if tokenizer else CharTokenizer("".join(sorted(alphabet)))
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        texts = _shown(progress, "tokenizing", _cut(_texts(documents), split), characters)
        parts = {"train": split, "val": characters - split}
        tokens: dict[str, int] = {}
        about = {"tokenizer": tokenizer.state, "dtype": dtype.name, "characters": parts, "tokens": tokens}
        with (folder / "tokens.bin").open("wb") as file:
            for name, length in parts.items():
                ids = encode(_pieces(texts, length), processes, tokenizer, dtype)
                tokens[name] = sum(map(file.write, ids)) // dtype.itemsize
            file.flush()
            os.fsync(file.fileno())
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _found(folder: Path) -> TokenizedCorpus:
    """What was kept.

    Raises:
        OSError, ValueError, KeyError, TypeError: There is nothing, or it is damaged.
    """
    about = json.loads((folder / "about.json").read_text("utf-8"))
    file, dtype, (train, val) = folder / "tokens.bin", np.dtype(about["dtype"]), about["tokens"].values()
    if file.stat().st_size != (train + val) * dtype.itemsize:
        raise ValueError(f"{file} is damaged")
    characters = about["characters"]["train"], about["characters"]["val"]
    return TokenizedCorpus(
        tokenizer_from_state(about["tokenizer"]),
        train=TokenizedSplit(TokenFile(file, dtype, 0, train), characters[0]),
        val=TokenizedSplit(TokenFile(file, dtype, train, train + val), characters[1]),
        whole=TokenizedSplit(TokenFile(file, dtype, 0, train + val), sum(characters)),
    )


def _sweep(folder: Path) -> None:
    """Remove what preparations that were killed have left."""
    for staging in folder.glob(".*"):
        if time.time() - staging.stat().st_mtime > ABANDONED:
            rmtree(staging, ignore_errors=True)


def _texts(documents: list[Document]) -> Iterator[str]:
    """The documents in texts of moderate length that end where words do; after each document, an empty one."""
    for document in documents:
        rest = ""
        for text in document.read(PIECE):
            rest += text
            cut = last_boundary(rest)
            yield rest[:cut]
            rest = rest[cut:]
        if rest:
            yield rest
        yield ""


def _cut(texts: Iterable[str], position: int) -> Iterator[str]:
    """The same texts, but none reaches over that many characters from the beginning."""
    for text in texts:
        if 0 < position < len(text):
            yield text[:position]
            yield text[position:]
        else:
            yield text
        position -= len(text)


def _pieces(texts: Iterator[str], characters: int) -> Iterator[Piece]:
    """The next texts, of so many characters, in pieces of several."""
    piece, size = Piece(), 0
    while characters > 0:
        text = next(texts)
        piece.append(text)
        size, characters = size + len(text), characters - len(text)
        if size >= PIECE or characters == 0:
            yield piece
            piece, size = Piece(), 0


def _shown(progress: Progress, what: str, texts: Iterable[str], characters: int) -> Iterator[str]:
    """The same texts, counted in a progress bar."""
    task = progress.add_task(what, total=characters)
    for text in texts:
        yield text
        progress.advance(task, len(text))
