import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import minillm as package
from minillm.cli import COMMANDS

Run = Callable[..., tuple[int, str, str]]


def test_help_lists_every_command(minillm: Run):
    code, out, err = minillm("--help")
    assert (code, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_lists_its_flags(command: str, minillm: Run):
    code, out, _ = minillm(command, "--help")
    assert code == 0
    assert ("--ckpt_path" in out) != (command in ("configs", "inspect"))


def test_version_prints_the_package_version(minillm: Run):
    assert minillm("--version") == (0, f"minillm {package.__version__}\n", "")


@pytest.mark.parametrize(("arguments", "message"), [([], "missing command"), (["train"], "unknown command 'train'")])
def test_a_missing_or_unknown_command_exits_with_one_line_and_code_2(arguments: list[str], message: str, minillm: Run):
    code, out, err = minillm(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert "fit, validate, test, predict, serve, export, inspect, configs" in err


def test_the_module_and_the_script_are_the_same_program():
    outputs = {
        subprocess.run([*program, "--help"], capture_output=True, text=True, check=True).stdout
        for program in (["minillm"], [sys.executable, "-m", "minillm"])
    }
    assert len(outputs) == 1


def test_help_and_usage_errors_do_not_import_torch():
    predict = ["predict", "--temperature", "-1", "--prompt", "A"]
    for arguments in (["--help"], ["predict", "--help"], predict, ["fit", "--help"], ["fit", "--max_steps", "3"]):
        program = (
            "import contextlib, sys; from minillm.cli import main\n"
            f"with contextlib.suppress(SystemExit): main({arguments})\n"
            "print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("False\n")


def test_predict_does_not_import_torch(in_smoke_run: Path):
    arguments = ["predict", "--prompt", "A", "--max_new_tokens", "3", "--num_samples", "2"]
    program = f"import sys; from minillm.cli import main; main({arguments}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_loading_a_model_does_not_import_lightning(in_smoke_run: Path):
    program = "import sys, minillm; minillm.load(); print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_the_package_exports_exactly_what_all_lists():
    assert all(callable(getattr(package, name)) for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = package.train  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no closed pipes that raise EPIPE")
@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "configs", "configs minillm", "fit --help", "predict --help", "serve --help"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_a_command_silently(arguments: str, unbuffered: str):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with os.fdopen(writer, "wb") as pipe:
        program = [sys.executable, "-m", "minillm", *arguments.split()]
        done = subprocess.run(program, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_does_not_hide_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        program = [sys.executable, "-m", "minillm", "predict", "--top_k", "0"]
        done = subprocess.run(program, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", ["--help", "configs", "fit --help"])
def test_a_full_disk_behind_stdout_is_reported_in_one_line(arguments: str):
    with Path("/dev/full").open("w") as full:
        program = [sys.executable, "-m", "minillm", *arguments.split()]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "minillm: error: stdout: No space left on device\n")
