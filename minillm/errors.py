"""Exit codes, one-line error messages and warnings of the command line."""

import os
import re
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn


class CommandExit(SystemExit):
    """End of a command: the command line prints the message and exits, a Python function raises an error of its own.

    Args:
        code: Exit code: 0 if there is nothing to do, 2 for invalid input, 128 plus the signal number after a signal.
        message: One line.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code)
        self.message = " ".join(message.split())

    def print_message(self) -> None:
        """Print the message to stderr, or to stdout if it is not about a problem."""
        if self.code == 0:
            print(self.message)
        else:
            print(f"minillm: {'error: ' if self.code == 2 else ''}{self.message}", file=sys.stderr)


@contextmanager
def exit_on_wrong_input(*exceptions: type[Exception]) -> Generator[None]:
    """Context manager around code that reads user input: report an exception in one line and exit with code 2.

    Args:
        exceptions: Exception types to report in addition to ValueError and OSError.

    Raises:
        CommandExit: With code 2, after such an exception.
    """
    try:
        yield
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, *exceptions) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Exit with code 2 and an error message.

    Raises:
        CommandExit: Always.
    """
    raise CommandExit(2, message)


def flush_stdout() -> None:
    """Flush stdout; if that fails, discard its content and exit, unless an error has been reported already."""
    pending = sys.exception()
    try:
        if sys.stdout is not None:  # it is closed
            sys.stdout.flush()
    except OSError as error:
        if isinstance(pending, SystemExit) and pending.code:
            _discard_stdout()
        else:
            exit_on_stdout_error(error)


def exit_on_stdout_error(error: OSError) -> NoReturn:
    """Exit after a failed write to stdout: with code 0 if the reader has closed the pipe, as `head` does, else 2."""
    _discard_stdout()
    if isinstance(error, BrokenPipeError):
        sys.exit(0)
    fail(f"stdout: {error.strerror}")


def _discard_stdout() -> None:
    """Redirect stdout to the null device, so that flushing it at exit cannot fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def format_warnings_on_one_line() -> None:
    """Format all further warnings like errors: one line, without the source code that issued them."""

    def format_warning(message: Warning | str, *args: Any, **kwargs: Any) -> str:
        return f"minillm: warning: {' '.join(str(message).split())}\n"

    warnings.formatwarning = format_warning


class OneLineErrorMixin:
    """Mixin for argument parsers that reports a usage error in one line."""

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Print the message and exit with code 2."""
        fail(re.sub("(?i)unrecognized arguments: (?=--)", "unrecognized flag ", message))
