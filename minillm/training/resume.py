"""Validate the training state of a checkpoint before a run resumes from it."""

from typing import Any

import torch
from lightning.pytorch import Trainer

from minillm.checkpoint.validation import check_tensor
from minillm.data.datamodule import TextDataModule


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Return the number of complete epochs at a checkpoint.

    Args:
        checkpoint: Content of the checkpoint.
    """
    loops = checkpoint["loops"]["fit_loop"]
    return loops["epoch_progress"]["current"]["ready"] - (not loops["epoch_loop.batch_progress"]["is_last_batch"])


def schedule_changes(checkpoint: dict[str, Any], data: TextDataModule, trainer: Trainer) -> list[str]:
    """Describe changed settings that make a resumed run repeat or leave out training windows.

    Args:
        checkpoint: Content of the checkpoint.
        data: Data of the run that resumes.
        trainer: Its Trainer.
    """
    messages: list[str] = []
    try:
        num_processes = len(checkpoint.get("random_states", [None]))
        saved = checkpoint["datamodule_hyper_parameters"].get("batch_size"), num_processes
        current = data.batch_size, trainer.world_size
        num_batches: int = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
        is_between_steps = num_batches % trainer.accumulate_grad_batches > 0
    except (KeyError, TypeError):
        return []  # check_training_state reports a malformed state
    if data.sampling == "shuffled" and saved != current:
        messages.append(
            f"this epoch repeats or leaves out windows: (batch_size, processes) were {saved} and are now {current}"
        )
    if is_between_steps:
        messages.append(
            f"the next step has fewer batches: {num_batches} batches were trained on, which is not a multiple of "
            f"accumulate_grad_batches {trainer.accumulate_grad_batches}"
        )
    return messages


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
            if checkpoint["global_step"] == 0:
                break  # the optimizer has no state yet
            for name, value in state["state"][index].items():
                check_tensor(f"{name} of parameter {index}", value, () if name == "step" else tuple(parameter.shape))
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
