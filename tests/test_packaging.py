"""Packaging: bounds of the dependencies, and a wheel used outside the repository."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from tests.conftest import CONFIGS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = {
    canonicalize_name(requirement.name): requirement
    for line in (*PROJECT["dependencies"], *EXTRAS["web"], *EXTRAS["benchmarks"], *EXTRAS["test"][1:])
    if (requirement := Requirement(line))
}
CONSTRAINTS = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_dependency_has_an_upper_bound(name: NormalizedName):
    assert {specifier.operator for specifier in REQUIREMENTS[name].specifier} & {"<", "=="}


def test_constraints_pin_every_dependency_within_its_bounds():
    needed = [
        canonicalize_name(Requirement(line).name)
        for line in (*PROJECT["dependencies"], *EXTRAS["web"], *EXTRAS["benchmarks"])
    ]
    assert set(needed) <= CONSTRAINTS.keys()
    for name in CONSTRAINTS.keys() & REQUIREMENTS.keys():
        assert REQUIREMENTS[name].specifier.contains(CONSTRAINTS[name]), name


def test_wheel_contains_the_configurations_the_web_page_and_py_typed(wheel: Path):
    assert (wheel / "minillm" / "py.typed").exists()
    for folder, origin in (("configs", CONFIGS), ("serve/page", ROOT / "minillm" / "serve" / "page")):
        packed = {path.name: path.read_bytes() for path in (wheel / "minillm" / folder).iterdir()}
        assert packed == {path.name: path.read_bytes() for path in origin.iterdir()}


def test_commands_of_a_wheel_run_outside_the_repository(wheel: Path, own_folder: Path):
    def run(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(wheel)}
        command = [sys.executable, "-m", "minillm", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import minillm; print(minillm.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    used = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, env=environment, check=True)
    assert used.stdout.startswith(str(wheel))
    assert re.findall(r"^(\S+) ", run("configs"), re.MULTILINE) == sorted(path.stem for path in CONFIGS.iterdir())
    assert run("configs", "best-small") == (CONFIGS / "best-small.yaml").read_text()
    assert "best val_loss" in run("fit", "--config", "smoke")
    assert len(run("predict", "--prompt", "A", "--max_new_tokens", "5")) == 5
    assert "--ckpt_path" in run("serve", "--help")
