"""From a model's scores to the next token: filters on the logits, then a choice."""

import math

import torch
from torch import Tensor


def sample(
    logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Choose the next token of each text.

    Args:
        logits: (B, V) scores.
        uniform: (B,) random numbers from [0, 1), which decide; the caller owns their generator.
        temperature: Divides the logits; below 1 the likely becomes likelier, 0 always takes the likeliest.
        top_k: Only the `top_k` likeliest tokens (and ties with the last of them) can be chosen.
        top_p: Only the likeliest tokens that together reach this probability can be chosen.

    Returns:
        (B,) token ids.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.double()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # the likeliest is 0: nothing overflows
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    target = uniform.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits of each row (B, V), and ties with the k-th, to minus infinity.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation".
    """
    threshold = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest of the likeliest tokens of each row (B, V) whose probabilities sum to at least p.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration" (nucleus sampling).
    """
    ordered, order = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered  # what the likelier tokens hold already
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -math.inf)
