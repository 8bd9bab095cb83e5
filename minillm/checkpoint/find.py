"""Find the checkpoint file that a name means."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minillm.checkpoint.format import NewerFormatError
from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder
from minillm.checkpoint.validation import Checkpoint, read_checkpoint


def find_checkpoint(ckpt_path: str | Path) -> Path:
    """The checkpoint file that a name means.

    Args:
        ckpt_path: A checkpoint file; a run folder (its best checkpoint); `best` (the newest below `lightning_logs/`) or
            `last` (the one of the most steps of the newest run there; one that cannot be read is warned of).

    Raises:
        ValueError: There is none.
    """
    if str(ckpt_path) == "last":
        return newest_readable(_newest_file("last").parent).path
    return _file(ckpt_path)


def open_to_resume(
    ckpt_path: str | Path, as_tensor: Callable[[Any], Any] = np.copy
) -> tuple[Checkpoint, RunFolder | None]:
    """Read the checkpoint to resume from, and no file twice.

    Args:
        ckpt_path: As for `find`, but of a run folder the checkpoint of the most steps.
        as_tensor: As for `read`.

    Returns:
        The checkpoint, and the run that training continues in: None if the checkpoint does not lie in a run folder, or
        if that run has more steps already, which must not be lost.

    Raises:
        ValueError: There is no such checkpoint, or it cannot be read.
    """
    if folder := _folder_to_resume(ckpt_path):
        checkpoint = newest_readable(folder, as_tensor)
        return checkpoint, RunFolder.of(checkpoint.path)
    checkpoint = read_checkpoint(_file(ckpt_path), as_tensor)
    run = RunFolder.of(checkpoint.path)
    try:
        has_more = run is not None and newest_readable(run.checkpoints, as_tensor, checkpoint).step > checkpoint.step
    except (NewerFormatError, OSError):
        has_more = True  # for all that is known
    return checkpoint, None if has_more else run


def newest_readable(
    folder: Path, as_tensor: Callable[[Any], Any] = np.copy, known: Checkpoint | None = None
) -> Checkpoint:
    """The checkpoint of the most steps, of `last.ckpt` and `best.ckpt` in a folder; warns of one that cannot be read.

    Args:
        folder: The `checkpoints` folder of a run.
        as_tensor: As for `read`.
        known: A checkpoint that is read already.

    Raises:
        ValueError: None is a complete checkpoint, or one has a later format.
        OSError: One cannot be read, though it may be complete.
    """
    found: list[Checkpoint] = []
    run = RunFolder(folder.parent)
    for file in (folder / run.last.name, folder / run.best.name):
        try:
            if known is not None and file.resolve() == known.path.resolve():
                found.append(known)
            elif file.exists():
                found.append(read_checkpoint(file, as_tensor))
        except NewerFormatError:
            raise
        except ValueError as error:
            warnings.warn(f"passed over: {error}", stacklevel=2)
    if not found:
        raise ValueError(f"none of the checkpoints in {folder} can be read")
    return max(found, key=lambda checkpoint: checkpoint.step)  # the first, of equals: last.ckpt


def _file(ckpt_path: str | Path) -> Path:
    """The file that a name means: the newest best one, the best one of a folder, or the path itself."""
    name = str(ckpt_path)
    if "://" in name:
        raise ValueError(f"{name!r} is an address: download the file first, if you trust where it comes from")
    if name == "best":
        return _newest_file("best")
    path = Path(name)
    if name and path.is_dir():
        path = path / "best.ckpt" if path.name == "checkpoints" else RunFolder(path).best
    if not name or not path.is_file():
        where = str(path) if name else name
        raise ValueError(f"no checkpoint at {where!r}: give a checkpoint file, a run folder, 'best' or 'last'")
    return path


def _folder_to_resume(ckpt_path: str | Path) -> Path | None:
    """The folder of checkpoints that a name means; None if it is the name of a file, or of nothing."""
    name = str(ckpt_path)
    if name == "last":
        return _newest_file("last").parent
    path = Path(name)
    folder = path if path.name == "checkpoints" else RunFolder(path).checkpoints
    return folder if name and any(folder.glob("*.ckpt")) else None


def _newest_file(kind: str) -> Path:
    """The newest checkpoint of a kind below `lightning_logs/`; a run counts as old as the newest of its checkpoints."""
    files = [
        file for name in {"best", kind} for file in RUNS_FOLDER.glob(f"**/checkpoints/{name}.ckpt") if file.is_file()
    ]
    if not files:
        raise ValueError(f"no {kind!r} checkpoint below {RUNS_FOLDER.absolute()}: train a model first (minillm fit)")
    return max(files, key=lambda file: file.stat().st_mtime_ns)
