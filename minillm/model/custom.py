"""Parts of a model that are not those of `Decoder`, which other implementations of it do not know."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from minillm.config import ModelConfig
from minillm.model.decoder import Decoder

# of the tensors that a checkpoint can hold
BUFFER_DTYPES = {torch.float32, torch.float64, torch.float16, torch.uint8, torch.int32, torch.int64, torch.bool}


def custom_parts(model: nn.Module) -> dict[str, str]:
    """Find the modules that differ from those of a `Decoder` with the same configuration.

    Args:
        model: A model that has its ModelConfig as attribute `config`.

    Returns:
        Names of classes by the names of the modules; `model` is the model itself. Submodules of such a module are left
        out, and all those of a model that is not derived from `Decoder`. Empty if the model is a `Decoder` with all
        its parts.

    Raises:
        ValueError: The model has no ModelConfig.
    """
    config: Any = getattr(model, "config", None)
    if not isinstance(config, ModelConfig):
        raise ValueError(f"{class_path(type(model))} must have its ModelConfig as attribute `config`, got {config!r}")
    if not isinstance(model, Decoder):
        return {"model": class_path(type(model))}
    with torch.device("meta"):  # no memory, no random numbers
        expected = {name: type(module) for name, module in _named_modules(Decoder(config))}
    parts: dict[str, str] = {}
    for name, module in _named_modules(model):
        is_inside = any(name.startswith(f"{part}.") for part in parts)
        if type(module) is not expected.get(name) and not is_inside:
            parts[name or "model"] = class_path(type(module))
    return parts


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return model.named_modules()  # pyright: ignore[reportUnknownVariableType] - its type parameter has no default


def class_path(cls: type) -> str:
    """Return the module and the name of a class, joined by a dot."""
    return f"{cls.__module__}.{cls.__qualname__}"


@torch.no_grad()
def check_model(model: nn.Module, config: ModelConfig) -> None:
    """Check a model class of one's own before it is trained: its weights and its outputs.

    Args:
        model: The model.
        config: Its configuration.

    Raises:
        ValueError: A weight cannot be saved, or the outputs are not logits (B, T, V).
    """
    name = class_path(type(model))
    custom_parts(model)
    for weight, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.dtype not in BUFFER_DTYPES:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{weight} of {name} is of type {kind}, which checkpoints cannot hold")
    for weight, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"{weight} of {name} is {parameter.dtype}, but weights are float32: pass trainer.precision bf16-mixed"
                " or 16-mixed to compute in low precision"
            )
    length, training = min(2, config.context_length), model.training
    logits: Any = model.eval()(torch.zeros(1, length, dtype=torch.long))
    model.train(training)
    expected = (1, length, config.vocab_size)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{name} must map ids (B, T) to logits (B, T, V): expected {expected} for {(1, length)}, got {shape}"
        )
