"""Load a trained model and its tokenizer, without Lightning."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from minillm.checkpoint.find import find_checkpoint
from minillm.checkpoint.validation import read_checkpoint
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import nn

    from minillm.model import Decoder

    M = TypeVar("M", bound=nn.Module)


@overload
def load(ckpt_path: str | Path = "best") -> tuple[Decoder, Tokenizer]: ...
@overload
def load(ckpt_path: str | Path = "best", *, model_class: type[M]) -> tuple[M, Tokenizer]: ...
def load(ckpt_path: str | Path = "best", *, model_class: type[Any] | None = None) -> tuple[Any, Tokenizer]:
    """Load a trained model.

    Args:
        ckpt_path: A checkpoint file, a run folder (its best checkpoint), or `best` or `last` of the newest run.
        model_class: The class that the model was trained with, by default `Decoder`.

    Returns:
        The model, in eval mode on the CPU, and its tokenizer.

    Raises:
        ValueError: There is no such checkpoint, the file is not a complete MiniLLM checkpoint, or its weights are not
            those of the class.
    """
    import torch  # imported here because generation needs only NumPy

    from minillm.model import Decoder

    read = partial(read_checkpoint, as_tensor=torch.tensor, allow_custom_parts=model_class is not None)
    checkpoint = read(find_checkpoint(ckpt_path, read))
    model = (model_class or Decoder)(checkpoint.config)
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint.path} does not match {type(model).__qualname__}: {error}") from error
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
