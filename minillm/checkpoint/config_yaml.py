"""Read configuration files, of earlier formats too."""

from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from minillm.checkpoint.format import check_format
from minillm.checkpoint.run_folder import RUNS_FOLDER

SECTIONS = {"data", "model", "trainer", "checkpoints", "samples", "attention_maps"}


def read_config(path: Path) -> tuple[dict[str, Any], bool]:
    """Read a configuration file.

    Args:
        path: A YAML file. One without a format number has format 1, whether an earlier version wrote it or a person.

    Returns:
        The settings in today's format, without sections that are empty, and whether they differ from what is written.

    Raises:
        ValueError: It holds anything but settings, is of a later format, or names two run folders.
        OSError: It cannot be read.
    """
    try:
        content: dict[str, Any] | None = yaml.safe_load(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if type(content) not in (dict, NoneType):
        raise ValueError(f"{path} must hold settings by name, got {content!r:.40}")
    config = dict(content or {})
    check_format(config, path)
    for section in sorted(SECTIONS):
        if section in config and config[section] is None:
            del config[section]
        elif type(config.get(section, {})) not in (dict, str):  # a string is the path of a file for the section
            raise ValueError(f"{path}: {section} must hold settings by name, got {config[section]!r:.40}")
    if config.get("format", 1) == 1:
        config = _from_format_1(config, path)
    return config, config != content


def _from_format_1(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Convert a configuration of format 1.

    It named the run folder by the arguments of a TensorBoardLogger, and listed arguments that are about one command.
    """
    about_a_command = [name for name in ("ckpt_path", "weights_only") if config.get(name) is None]
    config = {name: value for name, value in config.items() if name not in ("format", *about_a_command)}
    trainer: dict[str, Any] = config.get("trainer", {})
    if type(trainer) is not dict:  # but the path of a file with it
        return config
    loggers: list[Any] = trainer.get("logger", [])
    if type(loggers) is not list:
        loggers = [loggers]
    first = next((logger for logger in loggers if _is_tensorboard(logger)), None)
    if first is None:
        return config
    others = [logger for logger in loggers if logger is not first]
    config["trainer"] = trainer = {name: value for name, value in trainer.items() if name != "logger"}
    if others:
        trainer["logger"] = others
    place: dict[str, Any] = {} if type(first) is str else first.get("init_args") or {}
    if type(place) is not dict:
        raise ValueError(f"{path}: trainer.logger.init_args must hold settings by name, got {place!r:.40}")
    if place.get("name") and config.setdefault("name", place["name"]) != place["name"]:
        raise ValueError(
            f"{path}: name is {config['name']!r}, but trainer.logger says {place['name']!r}: remove the logger"
        )
    if place.get("version") is not None:
        config.setdefault("version", place["version"])
    save_dir = Path(str(place.get("save_dir") or RUNS_FOLDER))
    trainer.pop("default_root_dir", None)  # where the logger had a folder of its own, it decided nothing
    if save_dir != RUNS_FOLDER:
        trainer["default_root_dir"] = str(save_dir.parent if save_dir.name == RUNS_FOLDER.name else save_dir)
    return config


def _is_tensorboard(logger: dict[str, Any]) -> bool:
    path = logger.get("class_path") if type(logger) is dict else logger
    return str(path).rpartition(".")[2] == "TensorBoardLogger"
