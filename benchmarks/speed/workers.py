"""Contestants, each alone in a process of its own, that take turns."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

Contestant = Callable[[int], float]  # does something n times and says how many seconds that took


@dataclass
class Entry:
    """A contestant that has yet to be built: `make(**settings)`, asked to do its work `n` times a round."""

    make: Callable[..., Contestant]
    n: int
    settings: dict[str, Any]


@dataclass
class Result:
    """What a contestant did: seconds for each time, in every round, and the most memory it had."""

    seconds: list[float]
    peak_mb: float

    @property
    def median(self) -> float:
        """Seconds for one time, the median of the rounds."""
        return median(self.seconds)


def race(entries: dict[str, Entry], rounds: int) -> dict[str, Result]:
    """Let contestants take turns, so that a slow minute of the machine is slow for all of them.

    Args:
        entries: By name.
        rounds: Turns that count; before them each has one to warm up.

    Returns:
        Results by name.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name, entry in entries.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_work, args=(entry, theirs), daemon=True))
        processes[-1].start()
        pipes[name].recv()  # it is ready
    results = {name: Result([], 0.0) for name in entries}
    for turn in range(rounds + 1):
        for name, entry in entries.items():
            pipes[name].send(entry.n)
            seconds, results[name].peak_mb = pipes[name].recv()
            if turn:
                results[name].seconds.append(seconds / entry.n)
        print(f"\r  round {turn} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return results


def _work(entry: Entry, pipe: Connection) -> None:
    contestant = entry.make(**entry.settings)
    pipe.send(None)
    while (n := pipe.recv()) is not None:
        seconds = contestant(n)
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
