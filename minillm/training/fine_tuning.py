"""Fine-tuning: initialize a model with the weights of a checkpoint."""

import torch
from torch import Tensor, nn

from minillm.checkpoint.validation import Checkpoint
from minillm.tokenizer import CharTokenizer, Tokenizer


def initialize_from(base: Checkpoint, model: nn.Module) -> None:
    """Copy the weights of a checkpoint into a model.

    The embedding and head rows of new tokens are initialized to the mean of the old ones, so that no new token starts
    likelier than the others. Embeddings of positions beyond the model's context length are dropped.

    Args:
        base: The checkpoint.
        model: Model of the same shape, except for the number of tokens and of positions.

    Raises:
        ValueError: The checkpoint lacks a weight of the model, which is of a class of its own.

    Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
    """
    weights: dict[str, Tensor] = base.weights
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in weights:
                raise ValueError(f"{base.path} has no weight {name}, which {type(model).__qualname__} needs")
            old = weights[name]
            parameter[: len(old)] = old[: len(parameter)]
            parameter[len(old) :] = old.mean(dim=0)


def tokenizer_changes(base: Checkpoint, tokenizer: Tokenizer) -> str:
    """Describe how the tokenizer of a fine-tuning run differs from that of its base checkpoint, for a message."""
    if not isinstance(tokenizer, CharTokenizer):
        return "with its byte-pair tokenizer"
    added = [character for character in tokenizer.alphabet if character not in base.content["tokenizer"]["alphabet"]]
    end = " and an end-of-text token" if len(tokenizer.end_of_text) > len(base.tokenizer.end_of_text) else ""
    return f"with {len(added)} new characters{': ' if added else ''}{' '.join(map(repr, added))}{end}"
