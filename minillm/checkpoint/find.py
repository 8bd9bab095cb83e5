"""Resolve names such as `best`, `last` or a run folder to checkpoints."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minillm.checkpoint.format import NewerFormatError
from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder
from minillm.checkpoint.validation import Checkpoint, read_checkpoint


def find_checkpoint(ckpt_path: str | Path) -> Path:
    """Resolve a name to a checkpoint file.

    Args:
        ckpt_path: A checkpoint file; a run folder, for its best checkpoint; `best`, for the newest one below
            `lightning_logs/`; or `last`, for the checkpoint with the most steps in the newest run there, with a warning
            for each damaged one.

    Raises:
        ValueError: There is no such checkpoint.
    """
    if str(ckpt_path) == "last":
        return read_latest_checkpoint(_find_newest_run()).path
    return _resolve_file(ckpt_path)


def read_checkpoint_to_resume(
    ckpt_path: str | Path, as_tensor: Callable[[Any], Any] = np.copy
) -> tuple[Checkpoint, RunFolder | None]:
    """Read the checkpoint to resume from, and no file twice.

    Args:
        ckpt_path: As for `find_checkpoint`, except that a run folder resolves to its checkpoint with the most steps.
        as_tensor: As for `read_checkpoint`.

    Returns:
        The checkpoint, and the run folder to continue in: None if the checkpoint is not in a run folder, or if that run
        has a checkpoint with more steps, which must not be overwritten.

    Raises:
        ValueError: There is no such checkpoint, or it is not valid.
        OSError: It cannot be read.
    """
    if run := _resolve_run(ckpt_path):
        checkpoint = read_latest_checkpoint(run, as_tensor)
        return checkpoint, RunFolder.of(checkpoint.path)
    checkpoint = read_checkpoint(_resolve_file(ckpt_path), as_tensor)
    run = RunFolder.of(checkpoint.path)
    try:
        is_behind = run is not None and read_latest_checkpoint(run, as_tensor, checkpoint).step > checkpoint.step
    except (NewerFormatError, OSError):
        is_behind = True  # an unreadable checkpoint may have more steps
    return checkpoint, None if is_behind else run


def read_latest_checkpoint(
    run: RunFolder, as_tensor: Callable[[Any], Any] = np.copy, already_read: Checkpoint | None = None
) -> Checkpoint:
    """Read the checkpoint of a run with the most steps: last.ckpt or best.ckpt; warn of a damaged one.

    Args:
        run: The run folder.
        as_tensor: As for `read_checkpoint`.
        already_read: A checkpoint that need not be read again.

    Raises:
        ValueError: Neither is a valid checkpoint, or one has the format of a later version.
        OSError: One cannot be read, though it may be valid.
    """
    found: list[Checkpoint] = []
    for file in (run.last, run.best):
        try:
            if already_read is not None and file.resolve() == already_read.path.resolve():
                found.append(already_read)
            elif file.exists():
                found.append(read_checkpoint(file, as_tensor))
        except NewerFormatError:
            raise
        except ValueError as error:
            warnings.warn(f"skipped: {error}", stacklevel=2)
    if not found:
        raise ValueError(f"no valid checkpoint in {run.checkpoints}")
    return max(found, key=lambda checkpoint: checkpoint.step)  # the first maximum: last.ckpt if the steps are equal


def _resolve_file(ckpt_path: str | Path) -> Path:
    """Resolve a file to itself, a run folder to its best.ckpt, and `best` to the newest best.ckpt."""
    name = str(ckpt_path)
    if "://" in name:
        raise ValueError(f"{name!r} is a URL: download the file first, if you trust its source")
    if name == "best":
        return _find_newest_file("best")
    path = Path(name)
    if name and path.is_dir():
        path = _run_at(path).best
    if not name or not path.is_file():
        where = str(path) if name else name
        raise ValueError(f"no checkpoint at {where!r}: pass a checkpoint file, a run folder, 'best' or 'last'")
    return path


def _resolve_run(ckpt_path: str | Path) -> RunFolder | None:
    """Resolve a run folder that has checkpoints to itself, `last` to the newest run, and any other name to None."""
    name = str(ckpt_path)
    if name == "last":
        return _find_newest_run()
    run = _run_at(Path(name))
    return run if name and any(run.checkpoints.glob("*.ckpt")) else None


def _run_at(path: Path) -> RunFolder:
    """Return the run of a path that is a run folder or its `checkpoints` folder."""
    return RunFolder(path.parent if path.name == "checkpoints" else path)


def _find_newest_run() -> RunFolder:
    """Return the run below `lightning_logs/` whose last.ckpt or best.ckpt was modified last."""
    return _run_at(_find_newest_file("last", "best").parent)


def _find_newest_file(*stems: str) -> Path:
    """Return the most recently modified checkpoint file below `lightning_logs/` with one of these stems."""
    files = [file for stem in stems for file in RUNS_FOLDER.glob(f"**/checkpoints/{stem}.ckpt") if file.is_file()]
    if not files:
        hint = ", or pass 'last' for a run without a validation" if stems == ("best",) else ""
        raise ValueError(
            f"no {stems[0]!r} checkpoint below {RUNS_FOLDER.absolute()}: train a model first (minillm fit){hint}"
        )
    return max(files, key=lambda file: file.stat().st_mtime_ns)
