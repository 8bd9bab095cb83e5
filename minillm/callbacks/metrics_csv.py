"""metrics.csv."""

import csv
from io import StringIO
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from minillm.checkpoint.run_folder import RunFolder
from minillm.files import write_atomically


class MetricsCSVLogger(Logger):
    """Write whatever is logged to `metrics.csv`, a row each time; a resumed run goes on in the same table.

    Lightning's CSVLogger deletes the table that it finds, and rewrites it in place when a new metric comes.

    Args:
        run: The run folder.
        resumed_step: The step that the run goes on from: later rows are dropped, for they come again.
    """

    def __init__(self, run: RunFolder, resumed_step: int = 0) -> None:
        super().__init__()
        self.path = run.metrics
        self.resumed_step = resumed_step
        self.columns: list[str] = []  # none yet: nothing written by this process

    @property
    def name(self) -> None:
        """None: the folder is another logger's."""

    @property
    def version(self) -> None:
        """None, too."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write a row, at once.

        Args:
            metrics: Its values.
            step: Optimizer steps done.
        """
        row = {"step": step, **metrics}
        if row.keys() <= set(self.columns):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)
            return
        columns, rows = self._read()
        if not self.columns:
            rows = [old for old in rows if int(old.get("step") or 0) <= self.resumed_step]
        self.columns = list(dict.fromkeys([*columns, *row]))
        table = StringIO(newline="")
        writer = csv.DictWriter(table, self.columns)
        writer.writeheader()
        writer.writerows([*rows, row])
        write_atomically(self.path, table.getvalue().encode())

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and the whole rows that the table has so far."""
        if not self.path.exists():
            return [], []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or []), [row for row in reader if None not in row.values()]
