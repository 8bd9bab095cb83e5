"""Logger that writes metrics.csv."""

import csv
from io import StringIO
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from minillm.checkpoint.run_folder import RunFolder
from minillm.files import write_atomically


class MetricsCSVLogger(Logger):
    """Append all metrics to `metrics.csv`, one row per call; a resumed run continues the same table.

    Lightning's CSVLogger deletes an existing table, and rewrites it in place when a metric is new.

    Args:
        run: The run folder.
        resumed_step: Step that the run resumes from; rows of later steps are dropped, as the run repeats these steps.
    """

    def __init__(self, run: RunFolder, resumed_step: int = 0) -> None:
        super().__init__()
        self.path = run.metrics
        self.resumed_step = resumed_step
        self.columns: list[str] = []  # empty until this process has written a row

    @property
    def name(self) -> None:
        """None: Lightning takes the folder of a run from its first logger."""

    @property
    def version(self) -> None:
        """None: Lightning takes the folder of a run from its first logger."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: hyperparameters are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write a row immediately.

        Args:
            metrics: Values by name.
            step: Number of completed optimizer steps.
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
        """Read the columns and the complete rows of the existing table."""
        if not self.path.exists():
            return [], []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or []), [row for row in reader if None not in row.values()]
