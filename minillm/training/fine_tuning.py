"""Initialize a model for fine-tuning from the weights of another one."""

import torch
from torch import Tensor

from minillm.checkpoint.validation import Checkpoint
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer, Tokenizer


def initialize_from(weights: dict[str, Tensor], model: Decoder) -> None:
    """Copy the weights of a checkpoint into a model.

    The embedding and head rows of new tokens are initialized to the mean of the old ones, so that no new token starts
    likelier than the others; positions that the model does not have are left out.

    Args:
        weights: The checkpoint's, by the names that `state_dict` gives them.
        model: Of the same shape, but for the number of tokens and of positions.

    Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            old = weights[name]
            parameter[: len(old)] = old[: len(parameter)]
            parameter[len(old) :] = old.mean(dim=0)


def tokenizer_changes(base: Checkpoint, tokenizer: Tokenizer) -> str:
    """How the tokenizer of a fine-tuning run differs from that of the checkpoint it starts from, in words."""
    if not isinstance(tokenizer, CharTokenizer):
        return "with its byte pairs"
    added = [character for character in tokenizer.alphabet if character not in base.content["tokenizer"]["alphabet"]]
    return f"with {len(added)} new characters{': ' if added else ''}{' '.join(map(repr, added))}"
