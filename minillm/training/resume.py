"""From a checkpoint to the run that goes on from it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from minillm.generation.untrusted import check_tensor, read

UNCHANGED = ("data.context_length", "model.embed_dim", "model.num_layers", "model.num_heads", "seed_everything")


def saved_settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The flags that a checkpoint was trained with, of the model, the data and the seed.

    Args:
        checkpoint: As `read` returns it.

    Returns:
        Values by the names of their flags.
    """
    saved = {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items()}
    saved["data.context_length"] = saved.pop("model.context_length")
    del saved["model.vocab_size"]  # comes with the tokenizer
    saved |= {f"data.{name}": value for name, value in checkpoint["datamodule_hyper_parameters"].items()}
    return {**saved, "seed_everything": checkpoint["seed"]}


def run_to_continue(path: Path, checkpoint: dict[str, Any]) -> Path | None:
    """The run folder that training goes on in.

    Args:
        path: Where the checkpoint lies.
        checkpoint: As `read` returns it.

    Returns:
        The folder; None if the checkpoint lies in none, or if that run has gone on since: a new one begins there then,
        so that nothing of the old one is lost.
    """
    run = path.absolute().parent.parent
    if path.absolute().parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        return None
    for other in path.parent.glob("*.ckpt"):
        with suppress(ValueError, OSError):
            if read(other)["global_step"] > checkpoint["global_step"]:
                return None
    return run


def check_training_state(checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Hold what training goes on from against the weights that it is for.

    Args:
        checkpoint: As `read` returns it.
        optimizer: The new one.

    Raises:
        ValueError: It is that of another optimizer, model or step.
    """
    try:
        (state,) = checkpoint["optimizer_states"]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            for name, value in state["state"][number].items():
                check_tensor(f"{name} of weight {number}", value, torch.tensor(0.0) if name == "step" else weight)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]
        if progress["optimizer"]["step"]["total"]["completed"] != checkpoint["global_step"]:
            raise ValueError("its loops have done another number of steps")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the state of the training does not fit the weights ({error!r})") from error
