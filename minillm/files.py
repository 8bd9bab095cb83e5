"""Atomic file writes, home folders in paths, and JSON that is one line for every reader."""

import os
import re
from contextlib import suppress
from pathlib import Path

LINE_SEPARATOR = re.compile("[\x85\u2028\u2029]")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically and durably: after a crash it has either its old or its new content, never a part.

    Args:
        path: File to create or replace; its folder must exist.
        content: The complete content.

    Raises:
        OSError: The file cannot be written; its old content is kept.
    """
    temporary = path.with_name(f".{path.name}.part")  # in the same folder: a rename is atomic within a file system
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        error.filename, error.filename2 = str(path), None  # report the requested path, not the temporary file
        raise


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk, which makes a rename durable, on systems where a folder can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def escape_line_separators(text: str) -> str:
    """Escape U+0085, U+2028 and U+2029 in JSON, which allows them although some readers end a line at them."""
    return text if text.isascii() else LINE_SEPARATOR.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def expand_user(path: str) -> Path:
    """Return a path whose `~` is the home folder, and unchanged if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown user
