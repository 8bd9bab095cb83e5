"""Layout of run folders, and the format of samples.md."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

RUNS_FOLDER = Path("lightning_logs")  # in the working directory
_SECTION = re.compile(r"^## Step (\d+), val_loss (\S+)\n", re.MULTILINE)


class RunFolder(NamedTuple):
    """Paths of the files of a training run.

    Args:
        path: The run folder, `lightning_logs/<name>/version_N`.
    """

    path: Path

    @classmethod
    def of(cls, checkpoint: Path) -> "RunFolder | None":
        """Return the run folder that contains a checkpoint file; None if it is not in one."""
        folder = checkpoint.absolute().parent
        if RUNS_FOLDER.name not in folder.parts:  # a symbolic link to a run folder
            folder = folder.resolve()
        run = cls(folder.parent)
        return run if folder == run.checkpoints and run.config.is_file() else None

    @property
    def name(self) -> str:
        """Name of the run: the folders between the innermost `lightning_logs` and the version."""
        roots = [folder for folder in self.path.parent.parents if folder.name == RUNS_FOLDER.name]
        return self.path.parent.relative_to(roots[0] if roots else self.path.parent.parent).as_posix()

    @property
    def config(self) -> Path:
        """Resolved configuration; `fit --config` with it repeats the run."""
        return self.path / "config.yaml"

    def config_until(self, step: int) -> Path:
        """Return the path of the configuration that was in effect until a resume at this step changed it."""
        return self.path / f"config_until_step_{step}.yaml"

    @property
    def environment(self) -> Path:
        """Sessions of the run: command, versions and machine."""
        return self.path / "environment.json"

    @property
    def lock(self) -> Path:
        """Lock file of the process that writes to the run folder."""
        return self.path / ".lock"

    @property
    def metrics(self) -> Path:
        """Table of all logged metrics."""
        return self.path / "metrics.csv"

    @property
    def samples(self) -> Path:
        """Samples generated at each validation."""
        return self.path / "samples.md"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Checkpoint with the lowest val_loss."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last saved step."""
        return self.checkpoints / "last.ckpt"

    @property
    def averaged(self) -> Path:
        """Weights averaged by Lightning's StochasticWeightAveraging."""
        return self.checkpoints / "swa.ckpt"

    def kept(self, step: int) -> Path:
        """Return the path of a checkpoint that later ones do not replace."""
        return self.checkpoints / f"step_{step}.ckpt"


def run_folders(root: Path = RUNS_FOLDER) -> list[RunFolder]:
    """Return the folders below `lightning_logs/` that have checkpoints or sessions, also behind symbolic links."""
    found: list[RunFolder] = []
    visited = {root.resolve()}
    for folder, names, _ in os.walk(root, followlinks=True):
        run = RunFolder(Path(folder))
        if run.environment.is_file() or any(run.checkpoints.glob("*.ckpt")):
            found.append(run)
        new = {name: path for name in names if (path := Path(folder, name).resolve()) not in visited}
        names[:] = sorted(new)  # visits every folder once, although links may form a cycle
        visited.update(new.values())
    return found


def version_folder(version: int | str) -> str:
    """Return the name of a version's folder, the same as Lightning's loggers use."""
    return f"version_{version}" if isinstance(version, int) else version


class Sample(NamedTuple):
    """Section of samples.md: the text generated at one validation."""

    step: int
    val_loss: float
    text: str


def format_sample(sample: Sample) -> str:
    """Format a section of samples.md: a heading, and the text as an indented code block."""
    return f"## Step {sample.step}, val_loss {sample.val_loss:.4f}\n\n{code_block(sample.text)}\n\n"


def parse_samples(content: str) -> list[Sample]:
    """Parse the sections of samples.md, the inverse of `format_sample`; skip those with an invalid number."""
    _, *parts = _SECTION.split(content)
    samples: list[Sample] = []
    for step, val_loss, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        lines = body.strip("\n").split("\n")
        text = "\n".join(line.removeprefix("    ") for line in lines)
        with suppress(ValueError):  # a number edited by hand
            samples.append(Sample(int(step), float(val_loss), text))
    return samples


def truncate_samples(content: str, last_step: int) -> str:
    """Cut the content of samples.md before the first section of a step after `last_step`."""
    ends = (heading.start() for heading in _SECTION.finditer(content) if int(heading[1]) > last_step)
    return content[: next(ends, len(content))]


def code_block(text: str) -> str:
    """Format a text as an indented Markdown code block, which shows any text verbatim."""
    return "\n".join("    " + line for line in text.split("\n"))


class CheckpointFile(NamedTuple):
    """Checkpoint file and its modification time, in nanoseconds since the Unix epoch."""

    file: Path
    modified_ns: int


def checkpoint_files() -> dict[str, CheckpointFile]:
    """Return the checkpoints of all runs by name, such as `minillm/version_0/best`, the newest first."""
    found: dict[str, CheckpointFile] = {}
    for file in RUNS_FOLDER.glob("*/**/checkpoints/*.ckpt"):
        with suppress(FileNotFoundError, UnicodeEncodeError):  # removed in the meantime, or a name that is not UTF-8
            if is_inside_runs(file):
                name = (file.parent.parent.relative_to(RUNS_FOLDER) / file.stem).as_posix()
                name.encode()
                found[name] = CheckpointFile(file, file.stat().st_mtime_ns)
    return dict(sorted(found.items(), key=lambda item: (item[1].modified_ns, item[0]), reverse=True))


def group_by_run(names: Iterable[str]) -> dict[str, list[str]]:
    """Group the names of checkpoints by run: runs in order of first occurrence, the names of each sorted."""
    runs: dict[str, list[str]] = {}
    for name in names:
        if "/" in name:
            runs.setdefault(name.rpartition("/")[0], []).append(name)
    return {run: sorted(checkpoints) for run, checkpoints in runs.items()}


def is_inside_runs(file: Path) -> bool:
    """Return whether a path is a file inside `lightning_logs/` after symbolic links are resolved."""
    return file.is_file() and file.resolve().is_relative_to(RUNS_FOLDER.resolve())
