"""Load a trained model and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from minillm.checkpoint.find import find_checkpoint
from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from torch import nn

    from minillm.generation.torch_decoder import TorchDecoder
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


@dataclass(frozen=True)
class Device:
    """Device and precision of PyTorch.

    Args:
        accelerator: `auto`, `cpu`, `gpu` or `mps`, as for Lightning.
        precision: Lightning's precision, such as `32-true` or `bf16-mixed`.
    """

    accelerator: str
    precision: str

    def fabric(self) -> Fabric:
        """Return a Fabric that moves models to this device.

        Raises:
            ValueError: The device is not available.
        """
        from lightning.fabric import Fabric  # imported here because generation with NumPy starts in a tenth of the time

        try:
            return Fabric(accelerator=self.accelerator, devices=1, precision=cast(Any, self.precision))
        except RuntimeError as error:
            raise ValueError(f"accelerator {self.accelerator!r} is not available here: {error}") from error


def load_numpy(path: Path) -> tuple[NumpyDecoder, Tokenizer, dict[str, Any]]:
    """Load a trained model for generation with NumPy, without importing torch.

    Args:
        path: A checkpoint file.

    Returns:
        The model, its tokenizer, and the data settings that it was trained with, with the hashes `text_sha256`.

    Raises:
        ValueError: The file is not a complete MiniLLM checkpoint.
    """
    checkpoint = read_checkpoint(path)
    return NumpyDecoder(checkpoint.weights, checkpoint.config), checkpoint.tokenizer, data_settings(checkpoint)


def load_torch(path: Path, device: Device) -> tuple[TorchDecoder, Tokenizer, dict[str, Any]]:
    """Load a trained model for generation with PyTorch.

    Args:
        path: A checkpoint file.
        device: Its device and precision.

    Returns:
        As `load_numpy`.

    Raises:
        ValueError: The file is not a complete MiniLLM checkpoint, or the device is not available.
    """
    fabric = device.fabric()
    import torch  # imported here because generation with NumPy starts in a tenth of the time

    from minillm.generation.torch_decoder import TorchDecoder
    from minillm.model import Decoder

    checkpoint = read_checkpoint(path, as_tensor=torch.tensor)
    model = Decoder(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return TorchDecoder(model, fabric.setup_module(model.eval())), checkpoint.tokenizer, data_settings(checkpoint)


def data_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the data settings that a model was trained with, and the hashes `text_sha256` of its texts."""
    return {**checkpoint.data, "text_sha256": checkpoint.text_sha256}
