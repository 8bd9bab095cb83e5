"""What a person gets to read when the input was wrong: one line, and exit code 2."""

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn


@contextmanager
def exit_on_wrong_input(*also: type[Exception]) -> Generator[None]:
    """Report errors of the code inside, which reads what the user gave, as the user's.

    Args:
        also: Exceptions to report besides ValueError and OSError.
    """
    try:
        yield
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, *also) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print one line to stderr and leave with exit code 2."""
    print(f"minillm: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def one_line_warnings() -> None:
    """From now on show warnings like errors: what is the matter, without the line of code that found out."""

    def formatted(message: Warning | str, *args: Any, **kwargs: Any) -> str:
        return f"minillm: warning: {' '.join(str(message).split())}\n"

    warnings.formatwarning = formatted


class OneLineErrors:
    """Mixed into an argument parser: what is wrong with a flag is said in one line too."""

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Leave with exit code 2."""
        fail(message)
