"""Losses: next-token cross-entropy, and the output head of multi-token prediction."""

from torch import Tensor, nn
from torch.nn import functional as F

from minillm.model import Decoder


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (B, T, V) and token ids (B, T), in nats per token."""
    return F.cross_entropy(logits.flatten(end_dim=1), targets.flatten())


def second_head(model: nn.Module) -> nn.Linear:
    """Create the output head of the token after the next, initialized with zeros.

    Raises:
        ValueError: The model is not a `Decoder`, or its context is a single token.
    """
    if not isinstance(model, Decoder):
        raise ValueError("multi_token_weight needs a model class derived from Decoder")
    if model.config.context_length == 1:
        raise ValueError("multi_token_weight needs a context_length of at least 2")
    head = nn.Linear(model.config.embed_dim, model.config.vocab_size, bias=False)
    nn.init.zeros_(head.weight)
    return head
