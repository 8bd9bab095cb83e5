"""From a checkpoint file to a model and its tokenizer, without Lightning."""

import inspect
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer

RUNS = Path("lightning_logs")
NEEDED = {"state_dict", "hyper_parameters", "datamodule_hyper_parameters", "tokenizer", "seed"}


def load(ckpt_path: str | Path = "best") -> tuple[Decoder, CharTokenizer]:
    """Load a trained model.

    Args:
        ckpt_path: A checkpoint file, a run folder (its best checkpoint), or `best` or `last` of the newest run.

    Returns:
        The model, in eval mode on the CPU, and its tokenizer.

    Raises:
        ValueError: Nothing is there, or it is not a whole checkpoint of ours.
    """
    path = find(ckpt_path)
    checkpoint = read(path)
    settings, prefix = checkpoint["hyper_parameters"], "model."
    weights = {key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items()}
    try:
        tokenizer = CharTokenizer(checkpoint["tokenizer"]["alphabet"])
        if tokenizer.vocab_size != settings["vocab_size"]:
            raise ValueError(f"{tokenizer.vocab_size} characters for {settings['vocab_size']} tokens")
        model = Decoder(**{name: settings[name] for name in inspect.signature(Decoder).parameters})
        model.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is not a MiniLLM checkpoint: its parts do not fit together ({error})") from error
    return model.eval(), tokenizer


def find(ckpt_path: str | Path, in_folder: str = "best") -> Path:
    """The checkpoint file that a name stands for.

    Args:
        ckpt_path: A checkpoint file, a run folder, or `best` or `last`: those of the newest run below
            `lightning_logs/`.
        in_folder: Which of the two to take from a run folder.

    Raises:
        ValueError: There is none.
    """
    if str(ckpt_path) in ("best", "last"):
        found = sorted(RUNS.glob(f"**/checkpoints/{ckpt_path}.ckpt"), key=lambda file: file.stat().st_mtime_ns)
        if not found:
            raise ValueError(f"no {ckpt_path!r} checkpoint below {RUNS.absolute()}: train a model first (minillm fit)")
        return found[-1]
    path = Path(ckpt_path)
    if str(ckpt_path) and path.is_dir():
        path = path / "checkpoints" / f"{in_folder}.ckpt"
    if not path.is_file():
        raise ValueError(f"no checkpoint at {str(path)!r}: give a checkpoint file, a run folder, 'best' or 'last'")
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint file, as plain values only: a pickle that would run code is refused.

    Raises:
        ValueError: The file is not a whole checkpoint of ours.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's advice is for those who wrote the file
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        if path.stat().st_size == 0:
            reason = "it is empty"
        elif zipfile.is_zipfile(path):
            reason = "it holds more than plain values"
        else:
            reason = "it is something else, or was cut off"
        raise ValueError(f"{path} is not a whole MiniLLM checkpoint: {reason}") from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= NEEDED:
        raise ValueError(f"{path} is not a MiniLLM checkpoint: it lacks one of {', '.join(sorted(NEEDED))}")
    return checkpoint
