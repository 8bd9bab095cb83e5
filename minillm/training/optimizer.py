"""The optimizer."""

import math

import torch
from torch import nn


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only: biases and norms are left where the gradient puts them.

    Args:
        model: Whose parameters to train.
        learning_rate: Step size.
        weight_decay: How much of a matrix a step takes away, in units of the learning rate.

    Raises:
        ValueError: A number is negative or not finite.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    for name, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0, and a number, got {value}")
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
