"""LightningCLI's parser of command lines and configuration files."""

import re
from typing import Any, ClassVar, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from minillm.errors import OneLineErrors


class Parser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with short errors that name the configuration file they are in."""

    given: ClassVar[list[str]] = []  # the command line; for the parsers of subcommands too
    files: ClassVar[list[str]] = []  # configurations read for it

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Namespace:
        """Parse a command line."""
        self.given[:], self.files[:] = args or [], []
        return super().parse_args(args, *more, **kwargs)

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file."""
        self.files.append(str(cfg_path))
        try:
            return super().parse_path(cfg_path, *args, **kwargs)
        except UnicodeDecodeError as error:
            self.error(f"not UTF-8 text: {error}")

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Leave with exit code 2."""
        message = re.sub(
            r"(?s)\s+Errors:\s.*Given value: ", ". Got value: ", message
        )  # an essay on each type it is not
        message = re.sub(
            r"(?s)(- [^\n]*\s+)*Does not validate against any of the Union subtypes\s+Subtypes: \[(.*?)\]",
            _types,
            message,
        )
        flags = {word.removeprefix("--").partition("=")[0] for word in self.given if word.startswith("--")}
        about_flag = any(flag in message for flag in flags - {"config"})
        super().error(message if about_flag or not self.files else f"{', '.join(self.files)}: {message}")


def _types(found: re.Match[str]) -> str:
    names = [name.rpartition(".")[2] for name in re.findall(r"class '([\w.]+)'", found[2])]
    return "expected " + " or ".join("null" if name == "NoneType" else name for name in names)


def first_reason(message: str) -> str:
    """Of an essay on each type that a value is not, what the first of them has against it."""
    return re.sub(r"(?s)^.* Union subtypes.*?Errors:\s+- (.*?)\n.*$", r"\1", message)
