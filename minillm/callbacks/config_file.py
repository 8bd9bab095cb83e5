"""The configuration of a run, in its folder."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from minillm.checkpoint.config_yaml import read_config
from minillm.checkpoint.format import FORMAT
from minillm.checkpoint.run_folder import RunFolder
from minillm.files import write_atomically


class ConfigFile(Callback):
    """Keep the resolved configuration of a training run in its folder.

    Args:
        text: The configuration, in YAML.
        resumed_step: The step that the run goes on from.
    """

    def __init__(self, text: str, resumed_step: int) -> None:
        self.text = text
        self.resumed_step = resumed_step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml; when a resumed run changes settings, say which, and keep the old ones beside it."""
        folder = trainer.log_dir  # asked in every process: the answer is broadcast
        if not trainer.is_global_zero or not trainer.loggers or not folder:
            return
        run = RunFolder(Path(folder))
        path = run.config
        if path.exists():
            old = path.read_bytes()
            before, now = ({**config, "format": FORMAT} for config in (read_config(path)[0], yaml.safe_load(self.text)))
            for change in config_changes(before, now):
                print(f"changed from here on: {change}", flush=True)
            if old != self.text.encode():
                write_atomically(run.config_until(self.resumed_step), old)
        write_atomically(path, self.text.encode())


def config_changes(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """The settings that differ between two configurations, a line each."""
    found: list[str] = []
    for name in before | now:
        one: Any = before.get(name)
        other: Any = now.get(name)
        if type(one) is type(other) is dict:
            found += config_changes(one, other, f"{where}{name}.")
        elif one != other:
            found.append(f"--{where}{name} {one} -> {other}")
    return found
