"""Load a trained model and its tokenizer, without Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minillm.checkpoint.find import find_checkpoint
from minillm.checkpoint.validation import read_checkpoint
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minillm.model import Decoder


def load(ckpt_path: str | Path = "best") -> tuple[Decoder, Tokenizer]:
    """Load a trained model.

    Args:
        ckpt_path: A checkpoint file, a run folder (its best checkpoint), or `best` or `last` of the newest run.

    Returns:
        The model, in eval mode on the CPU, and its tokenizer.

    Raises:
        ValueError: There is no such checkpoint, or the file is not a complete MiniLLM checkpoint.
    """
    import torch  # imported here because generation needs only NumPy

    from minillm.model import Decoder

    checkpoint = read_checkpoint(find_checkpoint(ckpt_path), torch.tensor)
    model = Decoder(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return model.eval(), checkpoint.tokenizer


def load_numpy(path: Path) -> tuple[NumpyDecoder, Tokenizer, dict[str, Any]]:
    """Load a trained model for generation, without torch.

    Args:
        path: A checkpoint file.

    Returns:
        The model, its tokenizer, and the data settings that it was trained with, with the hashes `text_sha256`.

    Raises:
        ValueError: The file is not a complete MiniLLM checkpoint.
    """
    checkpoint = read_checkpoint(path)
    data = {**checkpoint.data, "text_sha256": checkpoint.text_sha256}
    return NumpyDecoder(checkpoint.weights, checkpoint.config), checkpoint.tokenizer, data
