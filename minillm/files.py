"""Files that are never half written."""

import os
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that at any moment, whatever happens, there is the old one or the new one, whole and on disk.

    Args:
        path: The file; its folder exists.
        content: All of it.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    staged = path.with_name(f".{path.name}.part")  # beside it: on the same file system, replacing is one step
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            staged.unlink()
        error.filename, error.filename2 = str(path), None  # what a person asked for, not how it was done
        raise


def _sync_folder(folder: Path) -> None:
    """Have the new name on disk too, on the systems where a folder can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
