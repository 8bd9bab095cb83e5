"""Write the configuration of a run to config.yaml."""

import re
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from minillm.checkpoint.config_yaml import read_config
from minillm.checkpoint.format import FORMAT
from minillm.checkpoint.run_folder import RunFolder
from minillm.files import write_atomically
from minillm.training.module import LanguageModel


class ConfigFile(Callback):
    """Write the resolved configuration of a training run to its folder.

    Args:
        text: Configuration as YAML.
        resumed_step: Step that the run resumes from.
        defaults: Configuration of settings that the previous file does not know, as YAML.
    """

    def __init__(self, text: str, resumed_step: int, defaults: str = "{}") -> None:
        self.text, self.defaults = text, defaults
        self.resumed_step = resumed_step
        self.path: Path | None = None  # of config.yaml, in the process that writes it

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml; if a resumed run changes settings, print the changes and keep the previous file."""
        folder = trainer.log_dir  # in every process: reading it is a broadcast
        if not trainer.is_global_zero or not trainer.loggers or not folder:
            return
        run = RunFolder(Path(folder))
        path = run.config
        if path.exists():
            old = path.read_bytes()
            before, now = ({**config, "format": FORMAT} for config in (read_config(path)[0], yaml.safe_load(self.text)))
            for change in config_changes(before, now, yaml.safe_load(self.defaults)):
                print(f"changed from here on: {change}", flush=True)
            if old != self.text.encode():
                write_atomically(run.config_until(self.resumed_step), old)
        write_atomically(path, self.text.encode())
        self.path = path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the learning rate that LearningRateFinder has found, so that a resumed run keeps it."""
        assert isinstance(pl_module, LanguageModel)
        hyper_parameters: dict[str, Any] = {**pl_module.hparams}
        learning_rate = hyper_parameters["learning_rate"]
        if self.path is not None and yaml.safe_load(self.text)["model"]["learning_rate"] != learning_rate:
            text = re.sub(r"(?m)^  learning_rate:.*$", f"  learning_rate: {learning_rate}", self.text)
            write_atomically(self.path, text.encode())


def config_changes(
    before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any], prefix: str = ""
) -> list[str]:
    """List the settings that differ between two configurations, one line per setting.

    Args:
        before: The previous configuration; a setting that it does not know had its default.
        now: The present configuration.
        defaults: The default configuration.
        prefix: Name of the section, with a dot.
    """
    changes: list[str] = []
    for name in before | now:
        default: Any = defaults.get(name)
        old: Any = before.get(name, default)
        new: Any = now.get(name)
        if type(old) is type(new) is dict:
            section = cast(dict[str, Any], default) if type(default) is dict else {}
            changes += config_changes(old, new, section, f"{prefix}{name}.")
        elif old != new:
            changes.append(f"--{prefix}{name} {old} -> {new}")
    return changes
