"""LightningCLI's parser of command lines and configuration files, with one-line errors."""

import difflib
import json
import re
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import Namespace
from jsonargparse.typing import register_type  # pyright: ignore[reportUnknownVariableType]
from lightning.pytorch.cli import LightningArgumentParser

from minillm.checkpoint.config_yaml import SECTIONS, read_config
from minillm.errors import OneLineErrorMixin, exit_on_wrong_input

register_type(torch.device)  # argument of Lightning's callbacks that average weights


class Parser(OneLineErrorMixin, LightningArgumentParser):
    """LightningCLI's parser with one-line errors that name the configuration file they come from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flags: list[str] = []  # flags of the command line being parsed, without --config
        self._files: list[str] = []  # configuration files read for it

    def parse_args(self, args: list[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:
        """Parse a command line."""
        names = [word.partition("=")[0] for word in args or [] if word.startswith("--")]
        self._flags = [name.removeprefix("--").removesuffix("+") for name in names if name != "--config"]
        self._files = []
        settings = super().parse_args(args, *more, **kwargs)
        self._check_values(settings)
        return settings

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file of the current or an earlier format."""
        self._files.append(str(path))
        file = Path(path)
        with exit_on_wrong_input():
            config, is_changed = read_config(file, as_flags=True)
        if not is_changed:
            return super().parse_path(path, *args, **kwargs)
        for section in SECTIONS & config.keys():
            if type(config[section]) is str:  # a path relative to this file
                config[section] = str((file.parent / config[section]).absolute())
        text = json.dumps(config, default=str)  # JSON is YAML in which every string is quoted
        return self.parse_string(text, *args, **kwargs)

    def check_settings(self, settings: dict[str, Any], source: Path) -> None:
        """Exit with an error on values that the flags of the same names do not accept.

        Args:
            settings: Values by flag name.
            source: The file that they were read from, for the error message.
        """
        self._flags, self._files = [], [str(source)]
        values = self.get_defaults()
        for name, value in settings.items():
            values[name] = value
        self._check_values(values)

    def _check_values(self, settings: Namespace) -> None:
        """Validate all values, including null, which jsonargparse skips as unset by default."""
        try:
            self.validate(settings, skip_unset=False)
        except (TypeError, OverflowError) as error:
            self.error(str(error))

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Exit with code 2 and a one-line error."""
        message = self._with_suggestion(shorten_error(message))
        found = re.search(r'key "([^"]+)"', message)
        key = f"{found[1]}." if found else "?"
        is_about_a_flag = any(f"--{flag}" in message or f"{flag}.".startswith(key) for flag in self._flags)
        super().error(message if is_about_a_flag or not self._files else f"{', '.join(self._files)}: {message}")

    def _with_suggestion(self, message: str) -> str:
        """Append the closest known flag to an error about an unknown one."""
        unknown = re.match(r"(?i)unrecognized arguments: --([^ =]+)", message)
        known: list[str] = list(self.get_defaults().keys()) if unknown else []
        closest = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.8) if unknown else []
        return f"{message}; did you mean --{closest[0]}?" if closest else message


def shorten_error(message: str) -> str:
    """Reduce an error message of jsonargparse to the expected types and the value."""
    class_path = (
        r"(?s)Does not validate against any of the Union subtypes\s+Subtypes: \[type\[.*?- (.*?)\n.*Given value: "
    )
    message = re.sub(class_path, r"\1. Got value: ", message)
    message = re.sub(r"(?s)\s+Errors:\s.*Given value: ", ". Got value: ", message)
    union = r"(?s)(- [^\n]*\s+)*Does not validate against any of the Union subtypes\s+Subtypes: \[([^\n]*)\]"
    return re.sub(union, _expected_types, message)


def first_union_error(message: str) -> str:
    """Reduce an error message about a Union type to the error of its first member."""
    return re.sub(r"(?s)^.* Union subtypes.*?Errors:\n  - (.*?)\n(?:  - |Given).*$", r"\1", message)


def _expected_types(found: re.Match[str]) -> str:
    names = [name.rpartition(".")[2] for name in re.findall(r"class '([\w.]+)'", found[2])]
    return "expected " + " or ".join("null" if name == "NoneType" else name for name in names)
