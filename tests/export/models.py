"""Checkpoints of untrained models with random weights, without a training run."""

from pathlib import Path
from typing import Any

import torch

from minillm.config import ModelConfig
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer, Tokenizer

ALPHABET = "\n ,.:'abcdefghijklmnoABCDEé"
CONTEXT_LENGTH = 16


def save_checkpoint(
    path: Path, tokenizer: Tokenizer | None = None, context_length: int = CONTEXT_LENGTH, **parts: Any
) -> Decoder:
    """Save a small model with weights that are larger than initial ones, and return it."""
    tokenizer = tokenizer or CharTokenizer(ALPHABET)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embed_dim": 12, "num_layers": 2, "num_heads": 3, "dropout": 0.1, **parts}
    config = ModelConfig(tokenizer.vocab_size, context_length, **sizes)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    content = {
        "state_dict": {f"model.{name}": weight for name, weight in model.state_dict().items()},
        "hyper_parameters": {"vocab_size": config.vocab_size, "context_length": context_length, **sizes},
        "datamodule_hyper_parameters": {"corpus": "tinyshakespeare", "batch_size": 4},
        "tokenizer": tokenizer.state,
        "seed": 1,
        "global_step": 2,
        "format": 3,
    }
    torch.save(content, path)
    return model
