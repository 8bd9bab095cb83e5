import os
from pathlib import Path
from typing import Any

import pytest

from minillm import cpus
from minillm.commands import flags
from minillm.cpus import SPIN_VARIABLES, limit_spinning, usable_cpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Simulate a machine: its affinity mask and the quotas of the process's cgroups, outermost first."""

    def configure(num_cpus: int, *quotas: str | None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(num_cpus)), raising=False)
        monkeypatch.setattr(cpus, "CGROUPS", tmp_path)
        folder = tmp_path
        for depth, quota in enumerate(quotas):
            if quota is not None:
                (folder / "cpu.max").write_text(f"{quota}\n")
            folder = folder / f"group{depth}"
            folder.mkdir()
        path = folder.relative_to(tmp_path).as_posix()
        real = Path.read_text
        monkeypatch.setattr(
            Path,
            "read_text",
            lambda self, *args: (
                f"1:name=systemd:/x\n0::/{path}\n" if str(self) == "/proc/self/cgroup" else real(self, *args)
            ),
        )

    return configure


@pytest.mark.parametrize(
    ("num_cpus", "quotas", "expected"),
    [
        (160, (), 160),
        (1, (), 1),
        (160, ("200000 100000",), 2),
        (160, ("max 100000",), 160),
        (160, ("150000 100000",), 2),
        (160, ("10000 100000",), 1),
        (2, ("400000 100000",), 2),
        (160, (None, "max 100000", "300000 100000", "500000 100000"), 3),
        (8, ("nonsense",), 8),
    ],
)
def test_usable_cpus_is_the_affinity_capped_by_every_cgroup_quota(
    num_cpus: int, quotas: tuple[str | None, ...], expected: int, machine: Any
):
    machine(num_cpus, *quotas)
    assert usable_cpus() == expected


def test_without_an_affinity_mask_all_cpus_are_usable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(cpus, "_cgroup_quotas", list)
    assert usable_cpus() == 7


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux sets the affinity of a process")
def test_a_process_restricted_to_one_cpu_has_one():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "4000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"GOMP_SPINCOUNT": ""}, "4000"),
    ],
)
def test_spinning_is_limited_unless_a_variable_says_how_threads_wait(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_fit_limits_spinning_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch):
    for name in SPIN_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def import_module(name: str) -> None:
        assert os.environ["GOMP_SPINCOUNT"] == "4000"
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(flags, "import_module", import_module)  # of the module that imports torch
    with pytest.raises(ModuleNotFoundError, match=r"^minillm\.commands\.fit$"):
        flags.run(["fit"])
