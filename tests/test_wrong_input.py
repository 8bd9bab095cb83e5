"""Wrong input of every kind: exit code 2, a one-line error that says what, where and what to do, no file written.

The cases are a table, tests/wrong_commands.py: a reader sees at a glance which kinds of wrong input are covered.
"""

import io
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CONFIGS
from tests.wrong_checkpoints import write_checkpoints
from tests.wrong_commands import CASES


@pytest.fixture(scope="module")
def folder(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a working folder with a trained model and invalid files of every kind."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(smoke_run / "lightning_logs" / "smoke" / "version_0", folder / "lightning_logs/smoke/version_0")
    for name, content in {
        "smoke.yaml": (CONFIGS / "smoke.yaml").read_bytes(),
        "unknown.yaml": b"model:\n  embed_dimm: 3\n",
        "broken.yaml": b"model: [\n",
        "list.yaml": b"- model\n",
        "section.yaml": b"trainer: [1]\n",
        "null.yaml": b"model:\n  beta2:\ndata:\n  batch_size: null\n",
        "init_args.yaml": b"trainer:\n  logger: {class_path: TensorBoardLogger, init_args: 5}\n",
        "no_name.yaml": b"name:\nversion: 1\n",
        "newer.yaml": b"format: 4\nmodel:\n  future: 1\n",
        "two_names.yaml": b"name: a\ntrainer:\n  logger: {class_path: TensorBoardLogger, init_args: {name: b}}\n",
        "latin1.yaml": b"# caf\xe9\n",
        "type.yaml": b"model:\n  num_layers: two\n",
        "class.yaml": b"trainer:\n  callbacks:\n    class_path: no.such.Thing\n",
        "latin1.txt": b"caf\xe9",
        "empty.txt": b"",
        "blank.txt": b"\n\n",
        "short.txt": b"x" * 10,
        "accent.txt": "naïve ".encode() * 100,
        "docs/a.txt": b"fine",
        "docs/b.txt": b"caf\xe9",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "nothing").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_checkpoints(folder / "lightning_logs/smoke/version_0/checkpoints/best.ckpt")
    return folder


def test_cases_are_numerous_and_distinct():
    assert len({command for command, _ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_wrong_input_is_rejected_with_a_one_line_error(
    command: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
):
    monkeypatch.chdir(folder)
    arguments = shlex.split(command)
    if arguments[-2:] == ["<", "latin1"]:
        arguments = arguments[:-2]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    line = refused(*arguments)
    assert re.search(message, line), line


@pytest.mark.parametrize("name", ["optimizer.ckpt", "loops.ckpt", "states.ckpt", "windows.ckpt"])
def test_resuming_from_a_malformed_training_state_is_an_error(name: str, folder: Path, tmp_path: Path, minillm: Any):
    more = ("--ckpt_path", folder / name, "--trainer.max_steps", 40)
    code, _, err = minillm("fit", "--config", CONFIGS / "smoke.yaml", *more)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name} cannot be resumed" in err
