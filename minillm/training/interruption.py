"""Early end of a training run: stop signals and divergence."""

import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

RESTART_COUNTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")

PR_SET_PDEATHSIG = 1  # from Linux's prctl.h
REPEAT_SECONDS = 0.2  # a signal that follows sooner is the same one: Linux sends one for each thread of a dead agent


def may_handle_signals() -> bool:
    """Return whether this is the main thread, the only one in which Python lets a program handle signals."""
    return threading.current_thread() is threading.main_thread()


def stop_signals() -> list[int]:
    """Return the signals that stop training after a step: SIGINT, SIGTERM and, in a SLURM job, SIGUSR1."""
    preemption = [signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else []  # sent before the time limit, if asked for
    return [signal.SIGINT, signal.SIGTERM, *preemption] if may_handle_signals() else []


def is_restart() -> bool:
    """Return whether torchrun or SLURM starts this command again after a failure or a preemption."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RESTART_COUNTS)


def stop_with_torchrun() -> None:
    """Ask Linux for a SIGTERM when the torchrun agent that started this process is killed.

    Without it, the process would continue to train, while a restarted agent starts another one in its place.

    Source: PR_SET_PDEATHSIG of prctl(2).
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class StoppedError(Exception):
    """Training was stopped by a signal, after its state was saved.

    Args:
        signum: Number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class DivergedError(ValueError):
    """The loss or a weight is NaN or infinite: the current state must not be saved."""


class StopRequest:
    """Signal handler that records the first of `stop_signals`; a second signal has its default effect."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._received_at = 0.0
        self._previous_handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handler, if this is the main thread."""
        for signum in stop_signals():
            self._previous_handlers[signum] = signal.signal(signum, self._handle)

    def uninstall(self) -> None:
        """Restore the previous handlers."""
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._previous_handlers = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._received_at = signum, time.monotonic()
            os.write(2, b"minillm: stopping after this step (and its validation); a second signal stops immediately\n")
        elif time.monotonic() - self._received_at > REPEAT_SECONDS:
            for number in self._previous_handlers:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.kill(os.getpid(), signum)
