"""The parser of command lines and configuration files: LightningCLI's, with errors of one line."""

import difflib
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from minillm.commands.config_files import read_migrated
from minillm.errors import OneLineErrors, fail


class Parser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with short errors that name the configuration file they are in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flags: list[str] = []  # given on the command line
        self._files: list[str] = []  # configurations read for it

    def parse_args(self, args: list[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:
        """Parse a command line."""
        self._flags = [word.removeprefix("--").partition("=")[0] for word in args or [] if word.startswith("--")]
        self._files = []
        return super().parse_args(args, *more, **kwargs)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file, of an older format too."""
        self._files.append(str(path))
        try:
            migrated = read_migrated(Path(path))
        except UnicodeDecodeError as error:
            self.error(f"not UTF-8 text: {error}")
        except yaml.YAMLError as error:
            self.error(f"not YAML: {error}")
        except ValueError as error:
            fail(str(error))
        if migrated is None:
            return super().parse_path(path, *args, **kwargs)
        return self.parse_string(yaml.safe_dump(migrated, allow_unicode=True), *args, **kwargs)

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Leave with exit code 2."""
        message = self._with_suggestion(shortened(message))
        is_about_a_flag = any(flag in message for flag in self._flags if flag != "config")
        super().error(message if is_about_a_flag or not self._files else f"{', '.join(self._files)}: {message}")

    def _with_suggestion(self, message: str) -> str:
        """Add the flag that an unknown one was probably meant to be."""
        unknown = re.match(r"(?i)unrecognized arguments: --([^ =]+)", message)
        nearest = difflib.get_close_matches(unknown[1], self.get_defaults().keys(), n=1) if unknown else []
        return f"{message}; did you mean --{nearest[0]}?" if nearest else message


def shortened(message: str) -> str:
    """An error message of jsonargparse, without its explanations of every type that a value is not."""
    message = re.sub(r"(?s)\s+Errors:\s.*Given value: ", ". Got value: ", message)
    union = r"(?s)(- [^\n]*\s+)*Does not validate against any of the Union subtypes\s+Subtypes: \[([^\n]*)\]"
    return re.sub(union, _expected_types, message)


def first_reason(message: str) -> str:
    """Of an explanation why a value is of none of several types, what the first of them has against it."""
    return re.sub(r"(?s)^.* Union subtypes.*?Errors:\n  - (.*?)\n(?:  - |Given).*$", r"\1", message)


def _expected_types(found: re.Match[str]) -> str:
    names = [name.rpartition(".")[2] for name in re.findall(r"class '([\w.]+)'", found[2])]
    return "expected " + " or ".join("null" if name == "NoneType" else name for name in names)
