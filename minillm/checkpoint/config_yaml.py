"""Read configuration files of the current and earlier formats."""

import math
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from minillm.checkpoint.format import FORMAT, check_format
from minillm.checkpoint.run_folder import RUNS_FOLDER

SECTIONS = {"data", "model", "trainer", "checkpoints", "samples", "attention_maps"}


def read_config(path: Path, as_flags: bool = False) -> tuple[dict[str, Any], bool]:
    """Read a configuration file.

    Args:
        path: A YAML file. Without a format number it has format 1, even if it was written by hand.
        as_flags: Whether the settings are those of a run that starts, so that their meaning must be that of this
            format.

    Returns:
        The settings in the current format without empty sections, and whether they differ from the file's content.

    Raises:
        UnsupportedFileError: The file has the format of a later version.
        ValueError: The file does not contain a mapping of settings, names two run folders, or gives, as flags, the
            batch_size of one batch of several.
        OSError: The file cannot be read.
    """
    try:
        content: dict[str, Any] | None = yaml.safe_load(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if type(content) not in (dict, NoneType):
        raise ValueError(f"{path} must contain a mapping of settings, got {content!r:.40}")
    config = dict(content or {})
    check_format(config, path)
    for section in sorted(SECTIONS):
        if section in config and config[section] is None:
            del config[section]
        elif type(config.get(section, {})) not in (dict, str):  # a string is the path of the section's own file
            raise ValueError(f"{path}: {section} must be a mapping of settings, got {config[section]!r:.40}")
    if config.get("format", 1) < 3 and as_flags:
        _check_batch_size(config, path)
    if config.get("format", 1) == 1:
        config = _from_format_1(config, path)
    return config, config != content


def _check_batch_size(config: dict[str, Any], path: Path) -> None:
    """Refuse the batch_size of formats 1 and 2 if it is that of one of several batches of a step."""
    data, trainer = _mapping(config, "data"), _mapping(config, "trainer")
    counts: list[Any] = [trainer.get(name, 1) for name in ("devices", "num_nodes", "accumulate_grad_batches")]
    num_parts = math.prod([count for count in counts if type(count) is int and count > 1])
    if num_parts > 1:
        size = data.get("batch_size", 32)
        value = f"{size * num_parts} instead of {size}" if type(size) is int else f"{num_parts} times as much"
        raise ValueError(
            f"{path}: data.batch_size is now the number of windows of a step, over all devices and accumulated batches:"
            f" write format: {FORMAT} and data.batch_size: {value}"
        )


def _from_format_1(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Convert a configuration of format 1.

    In format 1, the arguments of a TensorBoardLogger name the run folder, and the file also lists arguments that apply
    to a single command.
    """
    unset_command_arguments = [name for name in ("ckpt_path", "weights_only") if config.get(name) is None]
    config = {name: value for name, value in config.items() if name not in ("format", *unset_command_arguments)}
    trainer: dict[str, Any] = config.get("trainer", {})
    if type(trainer) is not dict:  # the path of the section's own file
        return config
    loggers: list[Any] = trainer.get("logger", [])
    if type(loggers) is not list:
        loggers = [loggers]
    run_logger = next((logger for logger in loggers if _is_tensorboard(logger)), None)
    if run_logger is None:
        return config
    others = [logger for logger in loggers if logger is not run_logger]
    config["trainer"] = trainer = {name: value for name, value in trainer.items() if name != "logger"}
    if others:
        trainer["logger"] = others
    init_args: dict[str, Any] = {} if type(run_logger) is str else run_logger.get("init_args") or {}
    if type(init_args) is not dict:
        raise ValueError(f"{path}: trainer.logger.init_args must be a mapping of settings, got {init_args!r:.40}")
    if init_args.get("name") and config.setdefault("name", init_args["name"]) != init_args["name"]:
        raise ValueError(
            f"{path}: name is {config['name']!r}, but trainer.logger has name {init_args['name']!r}: remove the logger"
        )
    if init_args.get("version") is not None:
        config.setdefault("version", init_args["version"])
    save_dir = Path(str(init_args.get("save_dir") or RUNS_FOLDER))
    trainer.pop("default_root_dir", None)  # format 1 ignored it: the logger chose the folder
    if save_dir != RUNS_FOLDER:
        trainer["default_root_dir"] = str(save_dir.parent if save_dir.name == RUNS_FOLDER.name else save_dir)
    return config


def _mapping(config: dict[str, Any], section: str) -> dict[str, Any]:
    """Return a section, which is empty if it has a file of its own."""
    value: Any = config.get(section, {})
    return {} if type(value) is str else value


def _is_tensorboard(logger: dict[str, Any]) -> bool:
    path = logger.get("class_path") if type(logger) is dict else logger
    return str(path).rpartition(".")[2] == "TensorBoardLogger"
