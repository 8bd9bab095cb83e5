"""Progress lines of training and evaluation that are not in a terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.callbacks import progress

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("command", "num_batches"), [("validate", 5), ("test", 5)])
def test_long_evaluation_prints_its_progress(
    command: str, num_batches: int, in_smoke_run: Path, minillm: Run, monkeypatch: pytest.MonkeyPatch
):
    flags = (f"--trainer.limit_{'val' if command == 'validate' else 'test'}_batches", num_batches)
    assert "batch" not in minillm(command, *flags)[1]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    lines = minillm(command, *flags)[1].splitlines()
    assert [line for line in lines if "batch" in line] == [f"validation: batch {n}/5" for n in range(1, 6)]
