"""Number of CPUs available to this process, and the threads that use them."""

import math
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")  # the mount point of cgroup v2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SPIN_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPIN_COUNT = 4000  # about 0.1 ms: longer than the pauses between the parallel regions of a training step


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use: its affinity mask, capped by the CPU quota of its cgroups.

    Returns:
        At least 1. A quota of 1.5 CPUs counts as 2.

    Source: sched_getaffinity(2); Linux kernel documentation, "Control Group v2", cpu.max.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([affinity, *_cgroup_quotas()])))


def user_sets_threads() -> bool:
    """Return whether an environment variable sets the number of threads."""
    return any(os.environ.get(name) for name in THREAD_VARIABLES)


def limit_spinning() -> None:
    """Let OpenMP threads sleep after a short wait for each other, unless an environment variable sets how they wait.

    By default, GNU OpenMP spins for milliseconds. On a machine that is busy, a spinning thread keeps the one that it
    waits for from running. Must be called before torch is imported.

    Source: GNU libgomp manual, GOMP_SPINCOUNT.
    """
    if not any(os.environ.get(name) for name in SPIN_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Let NumPy's OpenBLAS start with one thread, if NumPy is first imported inside the context.

    An environment variable that sets the number of threads wins.
    """
    if user_sets_threads():
        yield
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OPENBLAS_NUM_THREADS"]


def _cgroup_quotas() -> list[float]:
    """Return the CPU quotas of this process's cgroup and of those that contain it, in CPUs."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
        path = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
    except (OSError, StopIteration):  # another system, or cgroup v1
        return []
    quotas: list[float] = []
    for folder in (CGROUPS / path, *(CGROUPS / path).parents):
        try:
            quota, period = (folder / "cpu.max").read_text("utf-8").split()
            quotas.append(int(quota) / int(period))
        except (OSError, ValueError):  # the root cgroup has no such file, and "max" is no limit
            continue
    return quotas
