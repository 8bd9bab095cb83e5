"""Parts of a model that are not those of `Decoder`, which other implementations of it do not know."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from minillm.config import ModelConfig
from minillm.model.decoder import Decoder


def custom_parts(model: nn.Module) -> dict[str, str]:
    """Find the modules that differ from those of a `Decoder` with the same configuration.

    Args:
        model: A model that has its ModelConfig as attribute `config`.

    Returns:
        Names of classes by the names of the modules; `model` is the model itself. Submodules of such a module are left
        out. Empty if the model is a `Decoder` with all its parts.
    """
    config: Any = getattr(model, "config", None)
    if not isinstance(config, ModelConfig):
        raise TypeError(f"{class_path(type(model))} must have its ModelConfig as attribute `config`, got {config!r}")
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
