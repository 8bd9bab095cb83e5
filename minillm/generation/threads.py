"""Number of processes, and of threads of NumPy's matrix products."""

import math

from minillm.config import ModelConfig
from minillm.cpus import usable_cpus, user_sets_threads

MIN_PARAMETERS = 2_000_000  # of a model from which a second thread pays
MIN_WORK = 4e9  # tokens times parameters from which starting processes pays


def useful_threads(config: ModelConfig) -> int:
    """Return the number of threads that make the matrix products of a model faster: 1 for a small one, else all.

    Args:
        config: Configuration of the model.
    """
    return usable_cpus() if num_parameters(config) >= MIN_PARAMETERS else 1


def num_parameters(config: ModelConfig) -> int:
    """Return the number of parameters of a model."""
    return sum(math.prod(shape) for shape in config.weight_shapes().values())


def useful_processes(config: ModelConfig, num_texts: int, num_tokens: int) -> int:
    """Return the number of processes that generate texts fastest.

    Args:
        config: Configuration of the model.
        num_texts: Number of texts.
        num_tokens: Tokens per text.
    """
    is_much = num_texts * num_tokens * num_parameters(config) >= MIN_WORK
    return min(usable_cpus(), num_texts) if is_much and not user_sets_threads() else 1


def set_num_threads(num_threads: int) -> None:
    """Set the number of threads, unless an environment variable sets it.

    Args:
        num_threads: At least 1. More than are useful wait for each other, which is slow on a busy machine.
    """
    from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] - imported on use: slow

    if not user_sets_threads():
        threadpool_limits(num_threads, user_api="blas")
