from collections.abc import Generator

import numpy as np
import pytest
from threadpoolctl import threadpool_info  # pyright: ignore[reportMissingTypeStubs]

from minillm.config import ModelConfig
from minillm.generation import threads
from minillm.generation.threads import choose_num_threads


def blas_threads() -> int:
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return next(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


@pytest.fixture(autouse=True)
def cpus(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Simulate 2 CPUs without variables that set the number of threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 2)
    yield
    threads.threadpool_limits(1, user_api="blas")


def config(embed_dim: int) -> ModelConfig:
    return ModelConfig(vocab_size=65, context_length=64, embed_dim=embed_dim, num_layers=4, num_heads=1)


def test_a_small_model_uses_one_thread_and_a_large_one_all_cpus():
    for embed_dim, expected in ((128, 1), (256, 2), (64, 1)):  # 12 C² weights in each block: 0.8, 3.1 and 0.2 million
        choose_num_threads(config(embed_dim))
        assert blas_threads() == expected


def test_a_variable_that_sets_the_threads_wins(monkeypatch: pytest.MonkeyPatch):
    choose_num_threads(config(256))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    choose_num_threads(config(64))
    assert blas_threads() == 2
