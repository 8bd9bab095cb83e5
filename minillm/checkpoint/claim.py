"""Create run folders exclusively, and lock them while a process writes to them."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from minillm.checkpoint.run_folder import RunFolder, version_folder
from minillm.checkpoint.sessions import read_sessions


def create_run_folder(parent: Path, version: int | str | None) -> RunFolder:
    """Create the folder of a new run.

    Args:
        parent: The folder `lightning_logs/<name>`.
        version: Version of the run; None for the next free number. Runs that start at the same time get different ones.

    Returns:
        The run folder. It existed before only if a version was given.

    Raises:
        OSError: It cannot be created.
    """
    parent.mkdir(parents=True, exist_ok=True)
    if version is not None:
        run = RunFolder(parent / version_folder(version))
        run.path.mkdir(parents=True, exist_ok=True)
        return run
    numbers = [path.name.removeprefix("version_") for path in parent.glob("version_*")]
    number = max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1
    while True:
        run = RunFolder(parent / version_folder(number))
        try:
            run.path.mkdir()
            return run
        except FileExistsError:  # another run has just created it
            number += 1


@contextmanager
def lock_run(run: RunFolder) -> Generator[None]:
    """Hold the lock of a run folder, which ends with the process.

    Raises:
        ValueError: Another process holds it.
        OSError: The lock file cannot be created.
    """
    lock = FileLock(run.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        sessions = read_sessions(run)
        holder = f"process {sessions[-1]['pid']}" if sessions else "another process"
        action = "wait until it has ended, or pass another --name or --version"
        raise ValueError(f"{os.path.relpath(run.path)} is in use by {holder}: {action}") from None
    try:
        yield
    finally:
        lock.release()
