"""Facts about a training session that its result depends on, for environment.json."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from minillm.cpus import usable_cpus


def git_commit() -> str | None:
    """Return the commit of the git repository that contains the working folder, with `-dirty` if it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):  # there is no git, or no repository
        return None


def machine(trainer: Trainer) -> dict[str, Any]:
    """Return the hardware that a Trainer uses, its number of processes and threads, and its precision."""
    device = trainer.strategy.root_device
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": usable_cpus(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "precision": str(trainer.precision),
    }


def _processor() -> str:
    """Return the model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()
