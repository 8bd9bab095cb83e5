"""Sessions of a run in environment.json: one for the start of the run, and one for each time it was resumed."""

import json
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from minillm.checkpoint.run_folder import RunFolder
from minillm.files import write_atomically


def read_sessions(run: RunFolder) -> list[dict[str, Any]]:
    """Return the sessions of a run, the oldest first; none if the file is missing, damaged or of another version."""
    try:
        sessions: Any = json.loads(run.environment.read_bytes())["sessions"]
        for session in sessions:
            datetime.fromisoformat(session["started"])
            _ = session["pid"], session["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sessions


@contextmanager
def record_session(run: RunFolder, pid: int, **facts: Any) -> Generator[None]:
    """Append a session to environment.json when it starts, and its duration when it ends.

    Args:
        run: The run folder.
        pid: Process id.
        facts: Further facts, which JSON can represent.

    Raises:
        OSError: The file cannot be written when the session starts.
    """
    started = datetime.now(UTC).isoformat()
    session = {"started": started, "seconds": None, "pid": pid, "folder": str(run.path.resolve()), **facts}
    sessions, start = [*read_sessions(run), session], time.monotonic()
    _write(run, sessions)
    try:
        yield
    finally:
        session["seconds"] = round(time.monotonic() - start, 1)
        with suppress(OSError):  # such as a full disk, which has ended the run with a message of its own
            _write(run, sessions)


def start_of_last_session(run: RunFolder) -> tuple[float, bool]:
    """Return a key that orders runs by the start of their last session.

    Returns:
        Seconds since the Unix epoch, and whether the run was trained in this folder: a copy of it is older. A run
        without sessions, of an earlier version, has the modification time of its newest checkpoint.
    """
    if sessions := read_sessions(run):
        started = datetime.fromisoformat(sessions[-1]["started"]).timestamp()
        return started, sessions[-1]["folder"] == str(run.path.resolve())
    times = [file.stat().st_mtime for file in (run.last, run.best) if file.is_file()]
    return max(times, default=0.0), False


def _write(run: RunFolder, sessions: list[dict[str, Any]]) -> None:
    write_atomically(run.environment, f"{json.dumps({'sessions': sessions}, indent=2)}\n".encode())
