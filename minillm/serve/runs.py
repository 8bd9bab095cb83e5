"""Loss curves and samples of a training run, without what cannot be parsed."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from minillm.checkpoint.run_folder import RUNS_FOLDER, RunFolder, is_inside_runs, parse_samples
from minillm.serve.responses import Curve, RunDetails, Sample

MAX_POINTS = 400  # of a curve: a page has no more pixels
MAX_SAMPLES = 200
MAX_FILE_BYTES = 16_000_000  # the rest of a file is not read
T = TypeVar("T")


def run_details(run: str) -> RunDetails:
    """Read the loss curves and samples of a run.

    Args:
        run: Name of the run, as in `group_by_run`.
    """
    folder = RunFolder(RUNS_FOLDER / run)
    table = csv.DictReader(_read(folder.metrics).splitlines())
    try:
        rows = list(table)
    except csv.Error:  # such as a very long cell
        rows = []
    samples = [
        Sample(title=f"Step {sample.step}, val_loss {sample.val_loss:.4f}", text=sample.text)
        for sample in parse_samples(_read(folder.samples))
    ]
    train, validation = _points(rows, "train_loss"), _points(rows, "val_loss")
    return RunDetails(
        name=run,
        train_loss=_curve(train),
        val_loss=_curve(validation),
        lowest_val_loss=min((value for _, value in validation), default=None),
        samples=_thin_out(samples, MAX_SAMPLES),
    )


def _read(file: Path) -> str:
    if not is_inside_runs(file):
        return ""
    with file.open("rb") as opened:
        return opened.read(MAX_FILE_BYTES).decode(errors="replace").replace("\0", "")


def _points(table: list[dict[str, str]], metric: str) -> list[tuple[int, float]]:
    """Return the steps and values of a metric, without rows that cannot be parsed."""
    points: list[tuple[int, float]] = []
    for row in table:
        with suppress(KeyError, TypeError, ValueError):  # an empty cell, or an incomplete line
            point = int(row["step"]), float(row[metric])
            if math.isfinite(point[1]):
                points.append(point)
    return points


def _curve(points: list[tuple[int, float]]) -> Curve:
    thinned = _thin_out(points, MAX_POINTS)
    return Curve(steps=[step for step, _ in thinned], values=[value for _, value in thinned])


def _thin_out(values: list[T], count: int) -> list[T]:
    """Return at most `count` evenly spaced values, including the last."""
    every = math.ceil(len(values) / count) or 1
    return values[::-every][::-1]
