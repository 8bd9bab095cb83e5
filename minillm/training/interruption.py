"""Early end of a training run: stop signals and divergence."""

import os
import signal
import threading
from types import FrameType
from typing import Any


def may_handle_signals() -> bool:
    """Return whether this is the main thread, the only one in which Python lets a program handle signals."""
    return threading.current_thread() is threading.main_thread()


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
    """Signal handler that records the first SIGINT (Ctrl-C) or SIGTERM; a second signal has its default effect."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous_handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handler for SIGINT and SIGTERM, if this is the main thread."""
        for signum in (signal.SIGINT, signal.SIGTERM) if may_handle_signals() else ():
            self._previous_handlers[signum] = signal.signal(signum, self._handle)

    def uninstall(self) -> None:
        """Restore the previous handlers."""
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._previous_handlers = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        os.write(2, b"minillm: stopping after this step (and its validation); a second signal stops immediately\n")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
