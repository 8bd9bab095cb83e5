"""Check that the state of a training can be resumed."""

from typing import Any

import torch

from minillm.checkpoint.validation import check_tensor


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Number of complete epochs that the content of a checkpoint has behind it."""
    loops = checkpoint["loops"]["fit_loop"]
    return loops["epoch_progress"]["current"]["ready"] - (not loops["epoch_loop.batch_progress"]["is_last_batch"])


def check_training_state(checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Check that the state of the optimizer and of the loops matches the weights.

    Args:
        checkpoint: The content of the checkpoint.
        optimizer: The new optimizer.

    Raises:
        ValueError: The state is that of another optimizer, model or step.
    """
    try:
        (state,) = checkpoint["optimizer_states"]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            for name, value in state["state"][number].items():
                check_tensor(f"{name} of weight {number}", value, () if name == "step" else tuple(weight.shape))
        loops = checkpoint["loops"]["fit_loop"]
        optimization = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        batches = loops["epoch_loop.batch_progress"]["total"]["processed"]
        if optimization["step"]["total"]["completed"] != checkpoint["global_step"] or type(batches) is not int:
            raise ValueError("its loops have done another number of steps")
        if not checkpoint["global_step"] <= batches < 2**62 or not checkpoint["random_states"]:
            raise ValueError("its windows or random states are none that training can go on from")
        float(checkpoint["callbacks"]["Checkpoints"]["best_val_loss"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the state of the training does not fit the weights ({error!r})") from error
