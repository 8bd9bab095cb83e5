"""Argument parser of the commands that do not configure a training run."""

import argparse
import difflib
import re
from typing import Any, NoReturn

from minillm.errors import OneLineErrorMixin


class CommandParser(OneLineErrorMixin, argparse.ArgumentParser):
    """Parser that shows defaults in its help, and suggests the closest flag for an unrecognized one.

    Args:
        command: Name of the command.
        description: What it does, for its help.
    """

    def __init__(self, command: str, description: str) -> None:
        help_with_defaults = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(
            f"minillm {command}", None, description, formatter_class=help_with_defaults, allow_abbrev=False
        )

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Return the value of a flag; Python 3.11 removes `--` also after a flag's equals sign."""
        if action.option_strings and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Exit with code 2 and a one-line error."""
        unknown = re.match(r"unrecognized arguments: (--[^ =]+)", message)
        flags = re.findall(r"--[\w.]+", self.format_help())
        closest = difflib.get_close_matches(unknown[1], flags, n=1) if unknown else []
        super().error(f"{message}; did you mean {closest[0]}?" if closest else message)
