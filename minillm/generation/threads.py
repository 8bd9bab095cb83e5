"""Number of threads of NumPy's matrix products."""

import math

from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from minillm.config import ModelConfig
from minillm.cpus import usable_cpus, user_sets_threads

MIN_PARAMETERS = 2_000_000  # of a model from which a second thread pays


def choose_num_threads(config: ModelConfig) -> None:
    """Set the number of threads to 1 for a small model, unless an environment variable sets it.

    More threads do not make its matrix products faster, and on a busy machine they wait for each other.

    Args:
        config: Configuration of the model.
    """
    if not user_sets_threads():
        num_parameters = sum(math.prod(shape) for shape in config.weight_shapes().values())
        threadpool_limits(usable_cpus() if num_parameters >= MIN_PARAMETERS else 1, user_api="blas")
