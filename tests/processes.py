"""Run commands in forked processes, which share the imported modules: importing them takes seconds."""

import multiprocessing
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from minillm.cli import main

TIMEOUT_SECONDS = 100


class Result(NamedTuple):
    """Exit code (negative for a signal that killed the process), stdout and stderr."""

    code: int
    out: str
    err: str


class ForkedCommand:
    """A running command.

    Args:
        arguments: The command line.
        folder: Folder for its stdout and stderr.
        variables: Environment variables to change.
    """

    def __init__(self, arguments: list[str], folder: Path, variables: dict[str, str]) -> None:
        import_module("minillm.commands.fit")  # once, rather than in every process
        self._files = [folder / f"{name}_{time.monotonic_ns()}" for name in ("out", "err")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads, from 3.12 on
            context = multiprocessing.get_context("fork")
            self._process = context.Process(target=_run, args=(arguments, self._files, variables))
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait_for(self, text: str) -> None:
        """Wait until stdout contains a text."""
        wait_for_text(self._files[0], text, lambda: None if self._process.is_alive() else self._files[1].read_text())

    def has_ended_within(self, seconds: float) -> bool:
        """Wait for the end; return whether the command has ended."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def send_signal(self, signum: int) -> None:
        """Send a signal."""
        os.kill(self.pid, signum)

    def result(self) -> Result:
        """Wait for the end."""
        assert self.has_ended_within(TIMEOUT_SECONDS)
        assert self._process.exitcode is not None
        return Result(self._process.exitcode, *(file.read_text() for file in self._files))


def start_ranks(
    num_processes: int, arguments: list[str], folder: Path, last: Sequence[str] = (), **variables: str
) -> list[ForkedCommand]:
    """Start the processes of a distributed run, as torchrun does.

    Args:
        num_processes: Number of processes.
        arguments: The command line of each.
        folder: Folder for their stdout and stderr.
        last: Further flags of the last process.
        variables: Environment variables to change.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    shared |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes), **variables}
    flags = ["--trainer.strategy", "ddp", "--trainer.devices", str(num_processes), "--trainer.accelerator", "cpu"]
    command, *words = arguments
    commands = [[command, *flags, *words] for _ in range(num_processes)]
    commands[-1].extend(last)
    return [
        ForkedCommand(arguments, folder, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank, arguments in enumerate(commands)
    ]


def wait_for_text(file: Path, text: str, failure: Callable[[], str | None] = lambda: None) -> None:
    """Wait until a file contains a text.

    Args:
        file: The file, which need not exist yet.
        text: The text.
        failure: Returns why the text can no longer appear, else None.
    """
    end = time.monotonic() + TIMEOUT_SECONDS
    while not file.exists() or text not in file.read_text():
        assert (reason := failure()) is None, reason
        assert time.monotonic() < end
        time.sleep(0.01)


def _run(arguments: list[str], files: list[Path], variables: dict[str, str]) -> None:
    os.environ.update(variables)
    sys.stdout, sys.stderr = (file.open("w") for file in files)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        os.dup2(stream.fileno(), number)
    warnings.simplefilter("default")
    main(arguments)
