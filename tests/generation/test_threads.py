import os
import subprocess
import sys
from collections.abc import Generator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from minillm.config import ModelConfig
from minillm.cpus import THREAD_VARIABLES
from minillm.generation import threads
from minillm.generation.threads import set_num_threads, useful_threads


def blas_threads() -> int:
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return next(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


@pytest.fixture(autouse=True)
def cpus(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Simulate 2 CPUs without variables that set the number of threads."""
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 2)
    yield
    threadpool_limits(1, user_api="blas")


@pytest.mark.parametrize(("embed_dim", "num_threads"), [(64, 1), (128, 1), (256, 2)])
def test_a_small_model_uses_one_thread_and_a_large_one_all_cpus(embed_dim: int, num_threads: int):
    """Each of the blocks has 12 C² weights: together 0.2, 0.8 and 3.1 million."""
    config = ModelConfig(vocab_size=65, context_length=64, embed_dim=embed_dim, num_layers=4, num_heads=1)
    assert useful_threads(config) == num_threads


def test_a_variable_that_sets_the_threads_wins(monkeypatch: pytest.MonkeyPatch):
    set_num_threads(2)
    assert blas_threads() == 2
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    set_num_threads(1)
    assert blas_threads() == 2


@pytest.mark.parametrize(("variables", "expected"), [({}, "[1]\n"), ({"OPENBLAS_NUM_THREADS": "2"}, "[2]\n")])
def test_numpy_starts_with_one_thread_unless_a_variable_sets_the_number(variables: dict[str, str], expected: str):
    code = (
        "from minillm.cpus import one_blas_thread, user_sets_threads\n"
        "before = user_sets_threads()\n"
        "with one_blas_thread():\n    import numpy\n"
        "assert user_sets_threads() == before\n"
        "from threadpoolctl import threadpool_info\n"
        "print([library['num_threads'] for library in threadpool_info() if library['user_api'] == 'blas'])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES} | variables
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (process.stdout, process.stderr) == (expected, "")
