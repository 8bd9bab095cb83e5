"""Validate the training state of a checkpoint before a run resumes from it."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from minillm.checkpoint.validation import Checkpoint, check_tensor
from minillm.data.datamodule import get_datamodule

MAY_DIFFER = {
    "corpus",
    "val_corpus",
    "text_sha256",
    "tokenizer",
    "compile",
}  # settings of processes that train together


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Return the number of complete epochs at a checkpoint.

    Args:
        checkpoint: Content of the checkpoint.
    """
    loops = checkpoint["loops"]["fit_loop"]
    return loops["epoch_progress"]["current"]["ready"] - (not loops["epoch_loop.batch_progress"]["is_last_batch"])


def convert_batch_counts(checkpoint: dict[str, Any], num_batches: int) -> None:
    """Convert Lightning's counters of batches to another number of batches per step.

    Lightning derives the end of a step and the time of a validation from these counters.

    Args:
        checkpoint: Content of the checkpoint, whose counters are changed. A batch after the last complete step is
            dropped: its gradient is not saved.
        num_batches: Batches that this run accumulates per step.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    saved = Checkpoint(Path(), checkpoint).num_batches
    for counts in (progress["total"], progress["current"]):
        num_steps = counts["processed"] // saved
        change = num_steps * num_batches - counts["processed"]
        counts.update({name: count + change for name, count in counts.items()})


def check_processes_agree(trainer: Trainer) -> None:
    """Check that all processes start at the same step of the same training.

    Args:
        trainer: The Trainer, after a checkpoint is restored.

    Raises:
        MisconfigurationException: They differ, as on machines that do not share the folder of the run.
    """
    if trainer.world_size == 1:
        return
    data = get_datamodule(trainer)
    values: dict[str, Any] = {"step": trainer.global_step, "text": data.text_sha256, "max_steps": trainer.max_steps}
    model_settings: dict[str, Any] = {**trainer.lightning_module.hparams}
    data_settings: dict[str, Any] = {**data.hparams}
    for section, settings in (("model", model_settings), ("data", data_settings)):
        values |= {f"{section}.{name}": value for name, value in settings.items() if name not in MAY_DIFFER}
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, values)
    for rank, others in enumerate(gathered):
        for name in (name for name in values if others.get(name) != gathered[0].get(name)):
            difference = "another text" if name == "text" else f"{name} {others.get(name)}"
            raise MisconfigurationException(
                f"rank {rank} has {difference}, unlike rank 0: all machines need the run folder, the text and the flags"
            )


def check_training_state(checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Check that the training state (optimizer, loops, random states, callbacks) matches the weights.

    Args:
        checkpoint: Content of the checkpoint.
        optimizer: Optimizer of the run that resumes.

    Raises:
        ValueError: The state belongs to a different optimizer, model or step.
    """
    try:
        (state,) = checkpoint["optimizer_states"]
        indices = [index for group in state["param_groups"] for index in group["params"]]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, parameter in zip(indices, parameters, strict=True):
            if index not in state["state"] and (checkpoint["global_step"] == 0 or checkpoint.get("custom_parts")):
                continue  # the optimizer has no state of a parameter without a gradient
            for name, value in state["state"][index].items():
                check_tensor(f"{name} of parameter {index}", value, () if name == "step" else tuple(parameter.shape))
        for name, value in checkpoint.get("training_weights", {}).items():
            if name in checkpoint["state_dict"]:
                check_tensor(name, value, tuple(checkpoint["state_dict"][name].shape))
        if type(checkpoint.get("num_averaged", 1)) is not int or checkpoint.get("num_averaged", 1) < 1:
            raise ValueError("num_averaged must be at least 1")
        loops = checkpoint["loops"]["fit_loop"]
        optimizer_progress = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        num_steps = optimizer_progress["step"]["total"]["completed"]
        num_batches = loops["epoch_loop.batch_progress"]["total"]["processed"]
        if num_steps != checkpoint["global_step"] or type(num_batches) is not int:
            raise ValueError("the progress of its training loop does not match global_step")
        if not checkpoint["global_step"] <= num_batches < 2**62 or not checkpoint.get("random_states", [None]):
            raise ValueError("its number of batches is out of range, or its random states are missing")
        if "Checkpoints" in checkpoint["callbacks"]:  # a Trainer of one's own need not have it
            float(checkpoint["callbacks"]["Checkpoints"]["best_val_loss"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the training state does not match the weights ({error!r})") from error
