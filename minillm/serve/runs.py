"""What lies below `lightning_logs/`: runs, their checkpoints, how they went."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from minillm.generation.checkpoint import RUNS
from minillm.serve.schema import Measured, RunDetails, Sample

MOST_POINTS = 400  # of a curve: a page has no more pixels
MOST_SAMPLES = 200
MOST_BYTES = 16_000_000  # of a file that is shown
T = TypeVar("T")


class Checkpoint(NamedTuple):
    """A file, and when it was written, in nanoseconds."""

    file: Path
    written: int


def checkpoints() -> dict[str, Checkpoint]:
    """Every checkpoint by its name, such as `minillm/version_0/best`; the newest first."""
    found: dict[str, Checkpoint] = {}
    for file in RUNS.glob("*/**/checkpoints/*.ckpt"):
        with suppress(FileNotFoundError):  # it has just been replaced or removed
            if _is_inside(file):
                name = (file.parent.parent.relative_to(RUNS) / file.stem).as_posix()
                found[name] = Checkpoint(file, file.stat().st_mtime_ns)
    return dict(sorted(found.items(), key=lambda item: (item[1].written, item[0]), reverse=True))


def runs(names: Iterable[str]) -> dict[str, list[str]]:
    """The runs that checkpoints belong to, and the names of each one's."""
    found: dict[str, list[str]] = {}
    for name in names:
        if "/" in name:
            found.setdefault(name.rpartition("/")[0], []).append(name)
    return {run: sorted(checkpoints) for run, checkpoints in found.items()}


def details(run: str) -> RunDetails:
    """How a run went.

    Args:
        run: A name that `runs` gave.
    """
    folder = RUNS / run
    table = csv.DictReader(_content(folder / "metrics.csv").splitlines())
    try:
        rows = list(table)
    except csv.Error:  # an endless cell, say
        rows = []
    sections = re.split(r"^## (Step \d.*)\n", _content(folder / "samples.md"), flags=re.MULTILINE)[1:]
    samples = [
        Sample(title=title, text="\n".join(line.removeprefix("    ") for line in body.strip("\n").split("\n")))
        for title, body in zip(sections[::2], sections[1::2], strict=True)
    ]
    train, validation = _measured(rows, "train_loss"), _measured(rows, "val_loss")
    return RunDetails(
        name=run,
        train_loss=_curve(train),
        val_loss=_curve(validation),
        lowest_val_loss=min((value for _, value in validation), default=None),
        samples=_some(samples, MOST_SAMPLES),
    )


def _is_inside(file: Path) -> bool:
    """Whether it is a file that really lies below `lightning_logs/`, whatever links say."""
    return file.is_file() and file.resolve().is_relative_to(RUNS.resolve())


def _content(file: Path) -> str:
    if not _is_inside(file):
        return ""
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES).decode(errors="replace").replace("\0", "")


def _measured(table: list[dict[str, str]], metric: str) -> list[tuple[int, float]]:
    """The steps and values of a metric, as far as they can be read."""
    points = []
    for row in table:
        with suppress(KeyError, TypeError, ValueError):  # an empty cell, or a line that is half written
            point = int(row["step"]), float(row[metric])
            if math.isfinite(point[1]):
                points.append(point)
    return points


def _curve(points: list[tuple[int, float]]) -> Measured:
    some = _some(points, MOST_POINTS)
    return Measured(steps=[step for step, _ in some], values=[value for _, value in some])


def _some(values: list[T], count: int) -> list[T]:
    """At most so many, evenly spread; the last among them."""
    every = math.ceil(len(values) / count) or 1
    return values[::-every][::-1]
