"""The run folder: where runs are kept, the names of the files in one, and the grammar of samples.md."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

RUNS_FOLDER = Path("lightning_logs")  # in the working folder
_SECTION = re.compile(r"^## Step (\d+), val_loss (\S+)\n", re.MULTILINE)


class RunFolder(NamedTuple):
    """The files of a training run.

    Args:
        path: The folder, `lightning_logs/<name>/version_N`.
    """

    path: Path

    @classmethod
    def of(cls, checkpoint: Path) -> "RunFolder | None":
        """The run that a checkpoint file belongs to; None if it does not lie in a run folder."""
        folder = checkpoint.absolute().parent
        run = cls(folder.parent)
        return run if folder == run.checkpoints and run.config.is_file() else None

    @property
    def name(self) -> str:
        """The name of the run: the folders between the last `lightning_logs` and that of the version."""
        above = [folder for folder in self.path.parent.parents if folder.name == RUNS_FOLDER.name]
        return self.path.parent.relative_to(above[0] if above else self.path.parent.parent).as_posix()

    @property
    def config(self) -> Path:
        """The resolved configuration: `fit --config` on it repeats the run."""
        return self.path / "config.yaml"

    def config_until(self, step: int) -> Path:
        """The configuration that a resumed run had until a step at which it changed."""
        return self.path / f"config_until_step_{step}.yaml"

    @property
    def metrics(self) -> Path:
        """The table of everything that was logged."""
        return self.path / "metrics.csv"

    @property
    def samples(self) -> Path:
        """What the model wrote at each validation."""
        return self.path / "samples.md"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint of the lowest val_loss."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint of the latest saved step."""
        return self.checkpoints / "last.ckpt"


def version_folder(version: int | str) -> str:
    """The name of the folder of a version, as Lightning's loggers choose it."""
    return f"version_{version}" if isinstance(version, int) else version


class Sample(NamedTuple):
    """A section of samples.md: what the model wrote at a validation."""

    step: int
    val_loss: float
    text: str


def format_sample(sample: Sample) -> str:
    """A section of samples.md, with the text as an indented code block, which shows it as it is."""
    return f"## Step {sample.step}, val_loss {sample.val_loss:.4f}\n\n{code_block(sample.text)}\n\n"


def parse_samples(content: str) -> list[Sample]:
    """The sections of samples.md; the inverse of `format_sample`, section by section."""
    _, *parts = _SECTION.split(content)
    samples: list[Sample] = []
    for step, val_loss, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        lines = body.strip("\n").split("\n")
        text = "\n".join(line.removeprefix("    ") for line in lines)
        with suppress(ValueError):  # a number that somebody has edited
            samples.append(Sample(int(step), float(val_loss), text))
    return samples


def samples_until(step: int, content: str) -> str:
    """The content of samples.md up to a step, as it is."""
    later = (found.start() for found in _SECTION.finditer(content) if int(found[1]) > step)
    return content[: next(later, len(content))]


def code_block(text: str) -> str:
    """Markdown that shows a text as it is, whatever it contains."""
    return "\n".join("    " + line for line in text.split("\n"))


class CheckpointFile(NamedTuple):
    """A checkpoint file, and when it was written, in nanoseconds since the epoch."""

    file: Path
    written: int


def checkpoint_files() -> dict[str, CheckpointFile]:
    """The checkpoints of all runs by name, such as `minillm/version_0/best`; the newest first."""
    found: dict[str, CheckpointFile] = {}
    for file in RUNS_FOLDER.glob("*/**/checkpoints/*.ckpt"):
        with suppress(FileNotFoundError):  # it has just been replaced or removed
            if is_inside_runs(file):
                name = (file.parent.parent.relative_to(RUNS_FOLDER) / file.stem).as_posix()
                found[name] = CheckpointFile(file, file.stat().st_mtime_ns)
    return dict(sorted(found.items(), key=lambda item: (item[1].written, item[0]), reverse=True))


def runs_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The runs that named checkpoints belong to, each with the names of its own, in the order of the names."""
    found: dict[str, list[str]] = {}
    for name in names:
        if "/" in name:
            found.setdefault(name.rpartition("/")[0], []).append(name)
    return {run: sorted(checkpoints) for run, checkpoints in found.items()}


def is_inside_runs(file: Path) -> bool:
    """Whether a path is a file that really lies below `lightning_logs/`, whatever links say."""
    return file.is_file() and file.resolve().is_relative_to(RUNS_FOLDER.resolve())
