"""From a name to a checkpoint file, and from that to a model and its tokenizer, without Lightning."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.untrusted import MODEL, read
from minillm.tokenizer import Tokenizer, restored

if TYPE_CHECKING:
    from minillm.model import Decoder

RUNS = Path("lightning_logs")


def load(ckpt_path: str | Path = "best") -> tuple[Decoder, Tokenizer]:
    """Load a trained model.

    Args:
        ckpt_path: A checkpoint file, a run folder (its best checkpoint), or `best` or `last` of the newest run.

    Returns:
        The model, in eval mode on the CPU, and its tokenizer.

    Raises:
        ValueError: Nothing is there, or it is not a whole checkpoint of ours.
    """
    import torch  # only here: writing needs NumPy alone

    from minillm.model import Decoder

    checkpoint = read(find(ckpt_path), torch.tensor)
    settings = {name: checkpoint["hyper_parameters"][name] for name in inspect.signature(Decoder).parameters}
    model = Decoder(**settings)
    model.load_state_dict(_weights(checkpoint))
    return model.eval(), restored(checkpoint["tokenizer"])


def load_numpy(path: Path) -> tuple[NumpyDecoder, Tokenizer, dict[str, Any]]:
    """Load a trained model to write with, without torch.

    Args:
        path: A checkpoint file.

    Returns:
        The model, its tokenizer, and the settings of the data that it learned from.

    Raises:
        ValueError: It is not a whole checkpoint of ours.
    """
    checkpoint = read(path)
    decoder = NumpyDecoder(_weights(checkpoint), checkpoint["hyper_parameters"])
    return decoder, restored(checkpoint["tokenizer"]), checkpoint["datamodule_hyper_parameters"]


def _weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(MODEL): weight for name, weight in checkpoint["state_dict"].items()}


def find(ckpt_path: str | Path, in_folder: str = "best") -> Path:
    """The checkpoint file that a name stands for.

    Args:
        ckpt_path: A checkpoint file; a run folder; `best` (the newest below `lightning_logs/`) or `last` (the newest
            that can be read of the newest run there; one that cannot is warned of).
        in_folder: Which of the two to take from a run folder.

    Raises:
        ValueError: There is none.
    """
    name = str(ckpt_path)
    if "://" in name:
        raise ValueError(f"{name!r} is an address: download the file first, if you trust where it comes from")
    if name in ("best", "last"):
        files = [file for kind in {"best", name} for file in RUNS.glob(f"**/checkpoints/{kind}.ckpt") if file.is_file()]
        if not files:
            raise ValueError(f"no {name!r} checkpoint below {RUNS.absolute()}: train a model first (minillm fit)")
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        return newest if name == "best" else newest_in(newest.parent)
    path = Path(name)
    if name and path.is_dir():
        folder = path if path.name == "checkpoints" else path / "checkpoints"
        if in_folder == "last" and any(folder.glob("*.ckpt")):
            return newest_in(folder)
        path = folder / f"{in_folder}.ckpt"
    if not path.is_file():
        raise ValueError(f"no checkpoint at {str(path)!r}: give a checkpoint file, a run folder, 'best' or 'last'")
    return path


def newest_in(folder: Path) -> Path:
    """The one of the most steps, of `last.ckpt` and `best.ckpt` in a folder; one that cannot be read is warned of.

    Raises:
        ValueError: There is none that can be read.
    """
    steps = {}
    for file in (folder / "last.ckpt", folder / "best.ckpt"):
        try:
            if file.exists():
                steps[file] = read(file)["global_step"]
        except (ValueError, OSError) as error:
            warnings.warn(f"passed over: {error}", stacklevel=2)
    if not steps:
        raise ValueError(f"none of the checkpoints in {folder} can be read")
    return max(steps, key=lambda file: steps[file])  # the first, of equals: last.ckpt
