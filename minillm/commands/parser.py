"""The parser of command lines and configuration files: LightningCLI's, with errors of one line."""

import difflib
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from minillm.checkpoint.config_yaml import SECTIONS, read_config
from minillm.errors import OneLineErrors, exit_on_wrong_input


class Parser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with short errors that name the configuration file they are in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flags: list[str] = []  # given on the command line
        self._files: list[str] = []  # configurations read for it

    def parse_args(self, args: list[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:
        """Parse a command line."""
        names = [word.partition("=")[0] for word in args or [] if word.startswith("--")]
        self._flags = [name.removeprefix("--").removesuffix("+") for name in names if name != "--config"]
        self._files = []
        settings = super().parse_args(args, *more, **kwargs)
        self._check_values(settings)
        return settings

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file, of an older format too."""
        self._files.append(str(path))
        file = Path(path)
        with exit_on_wrong_input():
            config, is_changed = read_config(file)
        if not is_changed:
            return super().parse_path(path, *args, **kwargs)
        for section in SECTIONS & config.keys():
            if type(config[section]) is str:  # a path, from the file that it is written in
                config[section] = str((file.parent / config[section]).absolute())
        text = json.dumps(config, default=str)  # which is YAML too, with every string quoted
        return self.parse_string(text, *args, **kwargs)

    def check_settings(self, settings: dict[str, Any], source: Path) -> None:
        """Refuse values that no flag could have.

        Args:
            settings: Values by the names of their flags.
            source: The file that they come from, for the message.
        """
        self._flags, self._files = [], [str(source)]
        values = self.get_defaults()
        for name, value in settings.items():
            values[name] = value
        self._check_values(values)

    def _check_values(self, settings: Namespace) -> None:
        """Check all values, null too, which jsonargparse otherwise takes for one that is not given."""
        try:
            self.validate(settings, skip_unset=False)
        except (TypeError, OverflowError) as error:
            self.error(str(error))

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Leave with exit code 2."""
        message = self._with_suggestion(shortened(message))
        found = re.search(r'key "([^"]+)"', message)
        key = f"{found[1]}." if found else "?"
        is_about_a_flag = any(f"--{flag}" in message or f"{flag}.".startswith(key) for flag in self._flags)
        super().error(message if is_about_a_flag or not self._files else f"{', '.join(self._files)}: {message}")

    def _with_suggestion(self, message: str) -> str:
        """Add the flag that an unknown one was probably meant to be."""
        unknown = re.match(r"(?i)unrecognized arguments: --([^ =]+)", message)
        known: list[str] = list(self.get_defaults().keys()) if unknown else []
        nearest = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.8) if unknown else []
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
