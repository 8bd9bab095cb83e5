"""Fine-tuning: initialize a model with the weights of a checkpoint."""

import torch
from torch import Tensor

from minillm.checkpoint.validation import Checkpoint
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer, Tokenizer


def initialize_from(weights: dict[str, Tensor], model: Decoder) -> None:
    """Copy the weights of a checkpoint into a model.

    The embedding and head rows of new tokens are initialized to the mean of the old ones, so that no new token starts
    likelier than the others. Embeddings of positions beyond the model's context length are dropped.

    Args:
        weights: Weights of the checkpoint, by their names in the decoder's `state_dict`.
        model: Decoder of the same shape, except for the number of tokens and of positions.

    Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            old = weights[name]
            parameter[: len(old)] = old[: len(parameter)]
            parameter[len(old) :] = old.mean(dim=0)


def tokenizer_changes(base: Checkpoint, tokenizer: Tokenizer) -> str:
    """Describe how the tokenizer of a fine-tuning run differs from that of its base checkpoint, for a message."""
    if not isinstance(tokenizer, CharTokenizer):
        return "with its byte-pair tokenizer"
    added = [character for character in tokenizer.alphabet if character not in base.content["tokenizer"]["alphabet"]]
    return f"with {len(added)} new characters{': ' if added else ''}{' '.join(map(repr, added))}"
