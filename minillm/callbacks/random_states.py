"""Random number generator (RNG) states: saved for every process, and restored when a run is resumed."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from minillm.data.datamodule import get_datamodule


class RandomStates(Callback):
    """Save the RNG states of every process, and restore them when a run is resumed.

    They are restored right before the first batch, because setup draws random numbers too.
    """

    def __init__(self) -> None:
        self._saved: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the RNG states of this rank; derive new ones for a rank that the saved run did not have."""
        rank = trainer.global_rank
        if rank < len(self._saved):
            restore_states(self._saved[rank], pl_module.device)
        elif rank > 0:
            entropy = [get_datamodule(trainer).seed, rank, trainer.global_step]
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the RNG states of all ranks, one dictionary per rank."""
        states: list[Any] = [collect_states(pl_module.device)]
        if trainer.world_size > 1:
            states = states * trainer.world_size
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Hold the saved states until training starts."""
        self._saved = checkpoint.get("random_states", [])  # a Trainer of one's own need not save them


def collect_states(device: torch.device) -> dict[str, Any]:
    """Return the RNG states of Python, NumPy, torch and, unless it is the CPU, the device: plain values and tensors."""
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
    """Restore RNG states.

    Args:
        state: Result of `collect_states`.
        device: Device that the state was collected for.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and "device" in state:
        torch.get_device_module(device).set_rng_state(state["device"])
