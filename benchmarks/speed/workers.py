"""Interleaved timing of workloads, each in a process of its own."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

Workload = Callable[[int], float]  # runs n iterations and returns the elapsed seconds


@dataclass
class WorkloadSpec:
    """Workload to be built in its own process by `build(**arguments)`, and its number of iterations per round."""

    build: Callable[..., Workload]
    num_iterations: int
    arguments: dict[str, Any]


@dataclass
class Result:
    """Seconds per iteration in every round, and peak memory in MB."""

    seconds: list[float]
    peak_mb: float

    @property
    def median(self) -> float:
        """Median over the rounds of the seconds per iteration."""
        return median(self.seconds)


def run_interleaved(specs: dict[str, WorkloadSpec], rounds: int) -> dict[str, Result]:
    """Time workloads in turns, so that changes in the speed of the machine affect all of them.

    Args:
        specs: Workloads by name.
        rounds: Number of measured rounds, after one warmup round.

    Returns:
        Results by name.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name, spec in specs.items():
        pipes[name], child_pipe = context.Pipe()
        processes.append(context.Process(target=_work, args=(spec, child_pipe)))
        processes[-1].start()
        pipes[name].recv()  # wait until the workload is built
    results = {name: Result([], 0.0) for name in specs}
    for number in range(rounds + 1):
        for name, spec in specs.items():
            pipes[name].send(spec.num_iterations)
            seconds, results[name].peak_mb = pipes[name].recv()
            if number:
                results[name].seconds.append(seconds / spec.num_iterations)
        print(f"\r  round {number} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return results


def _work(spec: WorkloadSpec, pipe: Connection) -> None:
    workload = spec.build(**spec.arguments)
    pipe.send(None)
    while (n := pipe.recv()) is not None:
        seconds = workload(n)
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
