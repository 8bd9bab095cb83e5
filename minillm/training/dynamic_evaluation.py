"""Dynamic evaluation: the loss of a model that also learns from the text while it reads it."""

import copy
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from minillm.data.windows import SlidingWindows, Tokens
from minillm.training.losses import cross_entropy


def dynamic_loss(model: nn.Module, tokens: Tokens, learning_rate: float, stride: int, show_progress: bool) -> float:
    """Return the mean loss of a text in one pass, in nats per token; the model is not changed.

    A copy of the weights w reads the text in sliding windows. The targets of window i, which are scored once, are
    scored before they are learned from:

        loss_i = cross-entropy of the targets of window i under w_i
        w_(i+1) = w_i - learning_rate * gradient of loss_i at w_i

    Args:
        model: Maps token ids (B, T) to logits (B, T, V), without dropout; its `config` has the context length.
        tokens: (N,) token ids of the text.
        learning_rate: Step size of plain stochastic gradient descent.
        stride: Targets of a window, at its end; the first window has as many as the context.
        show_progress: Whether to show a progress bar on stderr.

    Source: Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models", section 3.
    """
    with torch.inference_mode(False), torch.enable_grad():
        model = copy.deepcopy(model).eval().requires_grad_(True)
        config: Any = model.config
        device = next(model.parameters()).device
        optimizer = torch.optim.SGD(model.parameters(), learning_rate)
        windows = SlidingWindows(tokens, config.context_length, batch_size=1, stride=stride)
        total = 0.0
        console = Console(stderr=True)
        for index in track(range(len(windows)), "dynamic evaluation", console=console, disable=not show_progress):
            window, num_scored = windows[index]
            window = window.to(device)
            loss = cross_entropy(model(window[:, :-1])[:, -num_scored:], window[:, 1:][:, -num_scored:])
            total += loss.item() * num_scored
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return total / (len(tokens) - 1)
