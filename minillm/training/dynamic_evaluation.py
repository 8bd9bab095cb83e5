"""Dynamic evaluation: the loss of a model that also learns from the text while it reads it."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from minillm.data.windows import ConsecutiveWindows, Tokens


def dynamic_loss(model: nn.Module, tokens: Tokens, learning_rate: float) -> float:
    """Return the mean loss of a text in one pass, in nats per token; the model is not changed.

    A copy of the weights w reads the text in consecutive windows. Window i is scored before it is learned from:

        loss_i = cross-entropy of window i under w_i,   w_(i+1) = w_i - learning_rate * gradient of loss_i at w_i

    Args:
        model: Maps token ids (B, T) to logits (B, T, V), without dropout; its `config` has the context length.
        tokens: (N,) token ids of the text.
        learning_rate: Step size of plain stochastic gradient descent.

    Source: Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models", section 3.
    """
    with torch.inference_mode(False), torch.enable_grad():
        model = copy.deepcopy(model).eval().requires_grad_(True)
        config: Any = model.config
        device = next(model.parameters()).device
        optimizer = torch.optim.SGD(model.parameters(), learning_rate)
        windows = ConsecutiveWindows(tokens, config.context_length, batch_size=1)
        total = 0.0
        for index in range(len(windows)):
            window = windows[index].to(device)
            loss = F.cross_entropy(model(window[:, :-1]).mT, window[:, 1:])
            total += loss.item() * (window.shape[1] - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return total / (len(tokens) - 1)
