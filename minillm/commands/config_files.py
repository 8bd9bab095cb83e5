"""Configuration files: those of the package, by name, and those of older formats."""

from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from minillm.checkpoint.format import check_format
from minillm.checkpoint.run_folder import RUNS

PACKAGE = Path(__file__).parent.parent
SECTIONS = ("data", "model", "trainer", "checkpoints", "samples", "attention_maps")
FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")  # in a wheel; in a clone or an editable installation


def shipped() -> dict[str, Path]:
    """The configurations of the package, by name."""
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def purpose(path: Path) -> str:
    """The first comment line of a configuration."""
    return path.read_text("utf-8").partition("\n")[0].lstrip("# ")


def locate(name: str) -> str:
    """The path of a configuration of the package, or of one's own.

    Args:
        name: A name such as `best-small`, which means the package's, whatever the working folder holds; or a path.

    Raises:
        ValueError: It is neither a name of the package's nor a path.
    """
    if name in shipped():
        return str(shipped()[name])
    if name and Path(name).name == name and not Path(name).suffix and not Path(name).exists():
        raise ValueError(f"no configuration is named {name!r}: give one of {', '.join(shipped())}, or a path to a file")
    return name


def read_migrated(path: Path) -> dict[str, Any] | None:
    """The content of a configuration file that cannot be parsed as it is, in today's format.

    Args:
        path: The file.

    Returns:
        The configuration, without sections that are empty and from an earlier format; None if nothing is to be changed.

    Raises:
        ValueError: It holds anything but settings, is of a later format, or names two run folders.
        OSError, UnicodeDecodeError, yaml.YAMLError: It cannot be read.
    """
    content: dict[str, Any] | None = yaml.safe_load(path.read_text("utf-8"))
    if type(content) not in (dict, NoneType):
        raise ValueError(f"{path} must hold settings by name, got {content!r:.40}")
    config = dict(content or {})
    check_format(config, path)
    for section in SECTIONS:
        if section in config and config[section] is None:
            del config[section]
        elif type(config.get(section, {})) not in (dict, str):  # a string is the path of a file for the section
            raise ValueError(f"{path}: {section} must hold settings by name, got {config[section]!r:.40}")
    if config.get("format", 1) == 1:
        config = _from_format_1(config, path)
    return None if config == content else config


def _from_format_1(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Format 1 named the run folder by the arguments of a TensorBoardLogger, and listed an argument of Lightning's."""
    config = {name: value for name, value in config.items() if name not in ("format", "weights_only")}
    trainer: dict[str, Any] = config.get("trainer", {})
    if type(trainer) is not dict:  # but the path of a file with it
        return config
    loggers: list[Any] = trainer.get("logger", [])
    if type(loggers) is not list:
        loggers = [loggers]
    ours = [logger for logger in loggers if _is_tensorboard(logger)]
    if not ours:
        return config
    others = [logger for logger in loggers if logger not in ours]
    config["trainer"] = trainer = {name: value for name, value in trainer.items() if name != "logger"}
    if others:
        trainer["logger"] = others
    place: dict[str, Any] = {} if type(ours[0]) is str else ours[0].get("init_args") or {}
    if place.get("name") and config.setdefault("name", place["name"]) != place["name"]:
        raise ValueError(
            f"{path}: name is {config['name']!r}, but trainer.logger says {place['name']!r}: remove the logger"
        )
    if place.get("version") is not None:
        config.setdefault("version", place["version"])
    save_dir = Path(place.get("save_dir") or RUNS)
    if save_dir != RUNS and not trainer.get("default_root_dir"):
        trainer["default_root_dir"] = str(save_dir.parent if save_dir.name == RUNS.name else save_dir)
    return config


def _is_tensorboard(logger: dict[str, Any]) -> bool:
    path = logger.get("class_path") if type(logger) is dict else logger
    return str(path).rpartition(".")[2] == "TensorBoardLogger"
