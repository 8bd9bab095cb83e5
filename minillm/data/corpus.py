"""Text corpora: their sources, their documents, and their split."""

from __future__ import annotations

import hashlib
import itertools
import os
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minillm.data.named_corpora import NAMED_CORPORA, named_text
from minillm.data.text_files import (
    END_OF_DOCUMENT,
    TextFormat,
    file_encoding,
    is_compressed,
    is_json_lines,
    read_file,
    split_lines,
)
from minillm.files import expand_user

if TYPE_CHECKING:
    from minillm.data.text_checks import TextCheck

MAX_UNASKED_BYTES = 2**28  # size limit for a file that only a checkpoint names
TRAIN_FRACTION = 0.9  # the first 90 % of the characters; the rest is for validation
MAX_SPLIT_DIFFERENCE = 0.05  # of the text, by which the split may move to the end of a document
MAX_LISTED_ERRORS = 10  # files that cannot be read
DEFAULT_FORMAT = TextFormat()


class Source(NamedTuple):
    """A part of a corpus: a file, or a text in memory."""

    file: Path | None
    text: str = ""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.file.stat().st_size if self.file else len(self.text.encode())

    def sha256(self) -> str:
        """Return the SHA-256 of the content, in hexadecimal.

        Raises:
            ValueError: The file cannot be read.
        """
        if self.file is None:
            return hashlib.sha256(self.text.encode()).hexdigest()
        try:
            with self.file.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"{self.file} cannot be read: {error.strerror}") from error

    @property
    def is_json_lines(self) -> bool:
        """Whether it is a file of JSON Lines."""
        return self.file is not None and is_json_lines(self.file)

    def read(self, text_format: TextFormat) -> Iterator[str]:
        """Read the text, as `read_file` does.

        Raises:
            ValueError: As for `read_file`.
        """
        if self.file is not None:
            yield from read_file(self.file, text_format)
        elif text_format.documents == "line":
            yield from split_lines(self.text.split("\n"))
        else:
            yield self.text
            if text_format.documents == "file":
                yield END_OF_DOCUMENT


@dataclass(frozen=True)
class Corpus:
    """A text: its sources in order, and their format.

    Args:
        name: Name or path, as for `open_corpus`.
        sources: Files, or a text in memory.
        text_format: Format of the files.
    """

    name: str
    sources: list[Source]
    text_format: TextFormat

    @property
    def size(self) -> int:
        """Size of the sources in bytes."""
        return sum(source.size for source in self.sources)

    def encodings(self) -> set[str]:
        """Return the encodings that the sources are read with.

        Raises:
            OSError: A source cannot be read.
        """
        files = [source.file for source in self.sources if source.file is not None]
        return {file_encoding(file, self.text_format.encoding) for file in files} or {"utf-8"}

    @property
    def has_documents(self) -> bool:
        """Whether the text consists of documents."""
        return self.text_format.documents != "none"

    def sha256(self) -> str:
        """Return the SHA-256 of the source, or of the hashes of several, in hexadecimal.

        Raises:
            ValueError: A source cannot be read.
        """
        hashes = [source.sha256() for source in self.sources]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def read_checked(self, check: TextCheck) -> Iterator[str]:
        """Read the text as `Source.read` does, and add it to a check.

        Raises:
            ValueError: A source cannot be read; all the others are read before, and the message lists ten such sources.
        """
        errors: dict[Path | None, ValueError] = {}
        for source in self.sources:
            unit = "document" if self.text_format.documents == "line" else "line"
            if source.is_json_lines:
                unit = "document" if self.has_documents else "record"
            check.begin_file(source.file, unit)
            try:
                for chunk in source.read(self.text_format):
                    check.add(chunk)
                    yield chunk
            except ValueError as error:
                errors[source.file] = error
        if errors:
            raise self._error(errors)

    def documents(self) -> list[str]:
        """Read the documents; without documents, the whole text.

        Raises:
            ValueError: A source cannot be read.
        """
        parts: list[list[str]] = [[]]
        for source in self.sources:
            for chunk in source.read(self.text_format):
                if chunk == END_OF_DOCUMENT:
                    parts.append([])
                else:
                    parts[-1].append(chunk)
        documents = ["".join(chunks) for chunks in parts]
        return documents[:-1] if self.has_documents else documents

    def training_documents(self) -> list[str]:
        """Read the documents of the training split; the last one is incomplete if the split divides it.

        Raises:
            ValueError: A source cannot be read.
        """
        documents = self.documents()
        if not documents:
            raise ValueError(f"corpus {self.name!r} is empty: pass one that contains text")
        ends = list(itertools.accumulate(map(len, documents)))
        position = split_position(ends[-1], ends if self.has_documents else [])
        complete = bisect(ends, position)
        rest = position - (ends[complete - 1] if complete else 0)
        return [*documents[:complete], *([documents[complete][:rest]] if rest else [])]

    def _error(self, errors: dict[Path | None, ValueError]) -> ValueError:
        if len(self.sources) == 1:
            return next(iter(errors.values()))
        listed = "; ".join(map(str, [*errors.values()][:MAX_LISTED_ERRORS]))
        more = "; ..." if len(errors) > MAX_LISTED_ERRORS else ""
        unusable = {file.suffix for file in errors if file}
        suffixes = Counter(source.file.suffix for source in self.sources if source.file)
        suffix = next((suffix for suffix, _ in suffixes.most_common() if suffix and suffix not in unusable), None)
        advice = "convert them, or move them elsewhere"
        if suffix and expand_user(self.name).is_dir():
            advice = f"leave them out with a pattern, such as '{Path(self.name)}/**/*{suffix}'"
        return ValueError(f"{len(errors):,} of {len(self.sources):,} files cannot be used ({advice}): {listed}{more}")


def open_corpus(name: str, text_format: TextFormat = DEFAULT_FORMAT) -> Corpus:
    """Find the sources of a corpus.

    Args:
        name: `tinyshakespeare`, `shakespeare` (all plays), `other_plays` (the plays that are not part of
            tinyshakespeare), or the path of a text file, a folder or a glob pattern (`src/**/*.py`). The files of a
            folder or pattern are sorted by path; hidden files of a folder are skipped.
        text_format: Format of the files.

    Returns:
        The corpus, of whose sources at least one is not empty.

    Raises:
        ValueError: The corpus does not exist or is empty, or a package that it requires is missing.
    """
    if not name:
        raise ValueError(f"corpus name is empty: pass {', '.join(NAMED_CORPORA)}, or a file, folder or glob pattern")
    if name in NAMED_CORPORA:
        return Corpus(name, [Source(None, named_text(name))], text_format)
    path = expand_user(name)
    if path.is_dir():
        files = sorted(_files_in(path))
    elif path.is_file():
        files = [path]
    else:
        matching = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        files = sorted(file for file in matching if file.is_file())
    if not files and not path.is_dir():
        raise ValueError(
            f"no corpus {name!r}: pass {', '.join(NAMED_CORPORA)}, or an existing file, folder or glob pattern"
        )
    if unusual := [file for file in files if not file.is_file()]:
        raise ValueError(f"{unusual[0]} is a broken link or a special file: remove it from the corpus")
    corpus = Corpus(name, [Source(file) for file in files], text_format)
    if not corpus.size:
        raise ValueError(f"corpus {name!r} is empty: pass one that contains text")
    return corpus


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of its subfolders, links to folders included; hidden ones are skipped.

    Raises:
        ValueError: A subfolder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen = {folder.resolve()}
    for parent, subfolders, names in os.walk(folder, onerror=fail, followlinks=True):
        visible = [Path(parent, name) for name in subfolders if not name.startswith(".")]
        subfolders[:] = [path.name for path in visible if path.resolve() not in seen]  # a link may lead back
        seen |= {path.resolve() for path in visible}
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def text_hashes(corpus: str, val_corpus: str | None) -> dict[str, str]:
    """Return the SHA-256 of the text of `corpus` and, if there is one, `val_corpus`, by these names.

    Raises:
        ValueError: A corpus does not exist or cannot be read.
    """
    corpora = {"corpus": corpus, "val_corpus": val_corpus}
    return {name: open_corpus(value).sha256() for name, value in corpora.items() if value is not None}


def split_position(num_chars: int, document_ends: Sequence[int]) -> int:
    """Return the length of the training split in characters.

    Args:
        num_chars: Length of the text.
        document_ends: Positions at which a document ends, in ascending order; none if there are no documents.

    Returns:
        90 % of the text, or the nearest end of a document, if it is not far away.
    """
    position = int(TRAIN_FRACTION * num_chars)
    index = bisect(document_ends, position)
    nearest = min(document_ends[max(index - 1, 0) : index + 1], key=lambda end: abs(end - position), default=position)
    is_near = 0 < nearest < num_chars and abs(nearest - position) <= MAX_SPLIT_DIFFERENCE * num_chars
    return nearest if is_near else position


def load_text(name: str, text_format: TextFormat = DEFAULT_FORMAT) -> str:
    """Read the whole text of a corpus; documents are separated by newlines.

    Raises:
        ValueError: The corpus does not exist or is empty, or one of its files cannot be read.
    """
    return "\n".join(open_corpus(name, text_format).documents())


def may_read_unasked(corpus: str) -> bool:
    """Return whether an existing corpus may be read although only a checkpoint names it.

    A checkpoint may come from anyone. Built-in corpora and files of up to 256 MiB (1 MiB if compressed) are allowed;
    folders are not, as one could be the whole disk.
    """
    path = expand_user(corpus)
    if corpus in NAMED_CORPORA or not path.is_file():
        return corpus in NAMED_CORPORA
    with suppress(OSError):
        return path.stat().st_size <= (MAX_UNASKED_BYTES // 256 if is_compressed(path) else MAX_UNASKED_BYTES)
    return False
