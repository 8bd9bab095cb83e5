"""The global random generators: one stream a process, and a resumed run goes on in it."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class RandomStates(Callback):
    """Save the states of the random generators of every process, and go on from them when a run is resumed.

    They are put back after everything is built and before the first batch: building draws from them too.
    """

    def __init__(self) -> None:
        self._saved: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on in this process's saved stream, or begin one that no other process has."""
        if trainer.global_rank < len(self._saved):
            restore_states(self._saved[trainer.global_rank], pl_module.device)
        elif trainer.global_rank > 0:
            torch.manual_seed(torch.initial_seed() + trainer.global_rank)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the states, a dictionary a process."""
        states: list[Any] = [collect_states(pl_module.device)]
        if trainer.world_size > 1:
            states = states * trainer.world_size
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember them until training starts."""
        self._saved = checkpoint["random_states"]


def collect_states(device: torch.device) -> dict[str, Any]:
    """The states of the generators of Python, NumPy, torch and, where it is not the CPU, of a device: plain values."""
    name, key, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, np.asarray(key).tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type != "cpu":
        state["device"] = torch.get_device_module(device).get_rng_state()
    return state


def restore_states(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `collect` found.

    Args:
        state: Its result.
        device: As it was then.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and "device" in state:
        torch.get_device_module(device).set_rng_state(state["device"])
