"""The loss curves and samples of a training run, as far as its files can be read."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder, is_inside_runs, parse_samples
from minillm.serve.schema import Measured, RunDetails, Sample

MOST_POINTS = 400  # of a curve: a page has no more pixels
MOST_SAMPLES = 200
MOST_BYTES = 16_000_000  # of a file that is shown
T = TypeVar("T")


def details(run: str) -> RunDetails:
    """How a run went.

    Args:
        run: A name that `group_by_run` gave.
    """
    folder = RunFolder(RUNS_FOLDER / run)
    table = csv.DictReader(_content(folder.metrics).splitlines())
    try:
        rows = list(table)
    except csv.Error:  # an endless cell, say
        rows = []
    samples = [
        Sample(title=f"Step {sample.step}, val_loss {sample.val_loss:.4f}", text=sample.text)
        for sample in parse_samples(_content(folder.samples))
    ]
    train, validation = _measured(rows, "train_loss"), _measured(rows, "val_loss")
    return RunDetails(
        name=run,
        train_loss=_curve(train),
        val_loss=_curve(validation),
        lowest_val_loss=min((value for _, value in validation), default=None),
        samples=_some(samples, MOST_SAMPLES),
    )


def _content(file: Path) -> str:
    if not is_inside_runs(file):
        return ""
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES).decode(errors="replace").replace("\0", "")


def _measured(table: list[dict[str, str]], metric: str) -> list[tuple[int, float]]:
    """The steps and values of a metric, as far as they can be read."""
    points: list[tuple[int, float]] = []
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
