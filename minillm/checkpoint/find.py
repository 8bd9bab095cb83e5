"""Resolve names such as `best`, `last` or a run folder to checkpoints."""

import warnings
from collections.abc import Callable
from pathlib import Path

from minillm.checkpoint.exported import is_exported
from minillm.checkpoint.format import UnsupportedFileError
from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder, run_folders, version_folder
from minillm.checkpoint.sessions import start_of_last_session
from minillm.checkpoint.validation import Checkpoint, read_checkpoint

Read = Callable[[Path], Checkpoint]


def find_checkpoint(ckpt_path: str | Path, read: Read = read_checkpoint) -> Path:
    """Resolve a name to a checkpoint file.

    Args:
        ckpt_path: A checkpoint file; the folder of an exported model; a run folder, for its best checkpoint; `best`,
            for that of the newest run below `lightning_logs/` that has one; or `last`, for the latest checkpoint of the
            newest run there.
        read: Reads a checkpoint, for `last`, to skip a damaged one.

    Raises:
        ValueError: There is no such checkpoint.
    """
    if str(ckpt_path) == "last":
        return read_latest_checkpoint(_find_newest_run("last.ckpt", "best.ckpt"), read).path
    return _resolve_file(ckpt_path)


def read_checkpoint_to_resume(
    ckpt_path: str | Path, read: Read = read_checkpoint, name: str | None = None
) -> tuple[Checkpoint, RunFolder | None]:
    """Read the checkpoint to resume from, and no file twice.

    Args:
        ckpt_path: As for `find_checkpoint`, except that a run folder resolves to its latest checkpoint.
        read: Reads a checkpoint.
        name: Name of the run that `last` means; None for any.

    Returns:
        The checkpoint, and the run folder to continue in: None if the checkpoint is not in a run folder, or if that run
        has a checkpoint with more steps, which must not be overwritten.

    Raises:
        ValueError: There is no such checkpoint, or it is not valid.
        OSError: It cannot be read.
    """
    if run := _resolve_run(ckpt_path, name):
        checkpoint = read_latest_checkpoint(run, read)
        return checkpoint, RunFolder.of(checkpoint.path)
    checkpoint = read(_resolve_file(ckpt_path))
    run = RunFolder.of(checkpoint.path)
    try:
        is_behind = run is not None and read_latest_checkpoint(run, read, checkpoint).step > checkpoint.step
    except (UnsupportedFileError, OSError):
        is_behind = True  # an unreadable checkpoint may have more steps
    except ValueError:
        is_behind = False  # last.ckpt and best.ckpt are damaged
    return checkpoint, None if is_behind else run


def find_run_to_continue(name: str, version: int | str | None = None, root: str | Path | None = None) -> Path | None:
    """Return the folder of the newest run of a name, for a command that either starts or resumes it.

    Args:
        name: Name of the run.
        version: Version of the run; None for the newest one.
        root: Folder that contains `lightning_logs`; None for the working folder.

    Returns:
        The run folder; None if it has no checkpoint yet, so that the run starts from the beginning.
    """
    folder = Path(root or "", RUNS_FOLDER).expanduser()
    runs = [run for run in run_folders(folder) if run.name == name]
    if version is not None:
        runs = [run for run in runs if run.path.name == version_folder(version)]
    newest = max(runs, key=start_of_last_session, default=None)
    return newest.path if newest and any(file.is_file() for file in (newest.last, newest.best)) else None


def read_latest_checkpoint(
    run: RunFolder, read: Read = read_checkpoint, already_read: Checkpoint | None = None
) -> Checkpoint:
    """Read last.ckpt, or best.ckpt if last.ckpt is missing or damaged; warn of a damaged one.

    Args:
        run: The run folder.
        read: Reads a checkpoint.
        already_read: A checkpoint that need not be read again.

    Raises:
        ValueError: Neither is a valid checkpoint, or one is not supported.
        OSError: last.ckpt cannot be read, though it may be valid.
    """
    for file in (run.last, run.best):
        try:
            if already_read is not None and file.resolve() == already_read.path.resolve():
                return already_read
            if file.exists():
                return read(file)
        except UnsupportedFileError:
            raise
        except ValueError as error:
            warnings.warn(f"skipped: {error}", stacklevel=2)
    raise ValueError(f"no valid checkpoint in {run.checkpoints}")


def _resolve_file(ckpt_path: str | Path) -> Path:
    """Resolve a file or exported model to itself, a run folder to its best.ckpt, and `best` to the newest best.ckpt."""
    name = str(ckpt_path)
    if "://" in name:
        raise ValueError(f"{name!r} is a URL: download the file first, if you trust its source")
    if name == "best":
        return _find_newest_run("best.ckpt").best
    path = Path(name)
    if name and path.is_dir():
        if is_exported(path):
            return path
        path = _run_at(path).best
    if not name or not path.is_file():
        where = str(path) if name else name
        raise ValueError(f"no checkpoint at {where!r}: pass a checkpoint file, a run folder, 'best' or 'last'")
    return path


def _resolve_run(ckpt_path: str | Path, name: str | None) -> RunFolder | None:
    """Resolve a run folder that has checkpoints to itself, `last` to the newest run, and any other path to None."""
    path = str(ckpt_path)
    if path == "last":
        return _find_newest_run("last.ckpt", "best.ckpt", name=name)
    run = _run_at(Path(path))
    return run if path not in ("", "best") and any(run.checkpoints.glob("*.ckpt")) else None


def _run_at(path: Path) -> RunFolder:
    """Return the run of a path that is a run folder or its `checkpoints` folder."""
    return RunFolder(path.parent if path.name == "checkpoints" else path)


def _find_newest_run(*names: str, name: str | None = None) -> RunFolder:
    """Return the run below `lightning_logs/` that was started or resumed last.

    Args:
        names: File names of checkpoints, of which the run must have one.
        name: Name of the run; None for any.

    Raises:
        ValueError: There is no such run.
    """
    runs = sorted(run_folders(), key=start_of_last_session, reverse=True)
    named = [run for run in runs if name in (None, run.name)]
    for index, run in enumerate(named):
        if any((run.checkpoints / file).is_file() for file in names):
            if "last.ckpt" in names and index:
                warnings.warn(f"skipped {named[0].path}, which has no checkpoint yet", stacklevel=2)
            return run
    what = f"no {Path(names[0]).stem!r} checkpoint" + (f" of a run named {name!r}" if name else "")
    if name and runs and not named:
        hint = f"the newest run is {runs[0].path}: pass its folder, or --name {runs[0].name}"
    else:
        hint = "train a model first (minillm fit)"
        hint += ", or pass 'last' for a run without a validation" if names == ("best.ckpt",) else ""
    raise ValueError(f"{what} below {RUNS_FOLDER.absolute()}: {hint}")
