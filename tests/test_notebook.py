import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tour.ipynb"
MAX_BYTES = 300_000
LOSS_TOLERANCE = 0.05  # nats: processors, precisions and numbers of threads sum in different orders

Cells = list[dict[str, Any]]


def code_cells(path: Path) -> Cells:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any], stream: str = "stdout") -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == stream)


def num_figures(cell: dict[str, Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


def final_losses(cells: Cells) -> dict[str, float]:
    """The losses printed by the cell with the tag `losses`, by run."""
    (cell,) = [cell for cell in cells if "losses" in cell["metadata"].get("tags", [])]
    return {name: float(loss) for name, loss in re.findall(r"^(.+?) +(\d\.\d+)$", printed(cell), re.MULTILINE)}


@pytest.fixture(scope="module")
def committed() -> Cells:
    return code_cells(NOTEBOOK)


def test_the_committed_notebook_has_been_executed_from_top_to_bottom(committed: Cells):
    assert [cell["execution_count"] for cell in committed] == list(range(1, len(committed) + 1))
    assert all(cell["outputs"] for cell in committed)


def test_the_committed_outputs_have_no_warnings_errors_or_absolute_paths(committed: Cells):
    for cell in committed:
        assert printed(cell, "stderr") == ""
        assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "display_data", "execute_result"}
        assert not re.search(r"(?<!\S)(/|~|[A-Z]:\\)\w", printed(cell))


def test_the_notebook_is_small_and_names_the_default_kernel():
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert json.loads(NOTEBOOK.read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"] == "python3"


def test_the_notebook_runs_and_its_losses_agree_with_the_committed_ones(committed: Cells, tmp_path: Path):
    """Execute a copy with nbclient, in a process of its own: event loops and sockets stay out of this one."""
    shutil.copy(NOTEBOOK, tmp_path)
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
    environment = {
        **os.environ,
        **{name: str(tmp_path / name.lower()) for name in folders},
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(tmp_path)),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger warns about frozen modules otherwise
    }
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--startup_timeout=300", NOTEBOOK.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr

    executed = code_cells(tmp_path / NOTEBOOK.name)
    assert [num_figures(cell) for cell in executed] == [num_figures(cell) for cell in committed]
    losses = final_losses(executed)
    assert losses == pytest.approx(final_losses(committed), abs=LOSS_TOLERANCE)
    assert len(losses) == 2
    assert min(losses, key=lambda name: losses[name]) == "quick"
