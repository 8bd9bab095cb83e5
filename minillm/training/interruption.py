"""Why a training ends before its time."""

import os
import signal
from types import FrameType
from typing import Any


class StoppedError(Exception):
    """Somebody asked the training to stop, and its state was saved.

    Args:
        signum: The signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class DivergedError(Exception):
    """The numbers went wrong: there is nothing left that is worth saving."""


class StopRequest:
    """Take note of the first Ctrl-C or SIGTERM; the second does what it does to any program: end it at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """From now on."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._note)

    def close(self) -> None:
        """Leave signals to whoever had them before."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        os.write(2, b"minillm: stopping after this step (and its validation); once more stops at once\n")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
