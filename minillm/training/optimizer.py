"""The optimizers: AdamW for everything, or Muon for the blocks' matrices beside it."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

NEWTON_SCHULZ_COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # a, b, c: chosen by Muon's author to raise small singular values fast
NEWTON_SCHULZ_STEPS = 5  # after which all lie between about 0.7 and 1.2


def adamw(model: nn.Module, learning_rate: float, weight_decay: float, beta2: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only: biases and norms are left where the gradient puts them.

    Args:
        model: Whose parameters to train.
        learning_rate: Step size.
        weight_decay: How much of a matrix a step takes away, in units of the learning rate.
        beta2: How much of the mean of squared gradients a step keeps.

    Raises:
        ValueError: A number is out of its range.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    _check(beta2, learning_rate=learning_rate, weight_decay=weight_decay)
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim == 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)


class Muon(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for what is left: embeddings, head, norms.

    A step of Muon has the directions of the gradient's momentum, all of them with the same length: its matrix is
    replaced by the nearest orthogonal one. So what is rare in the gradients is learned as fast as what is frequent.

    Args:
        model: Whose parameters to train; it has `blocks`.
        learning_rate: AdamW's step size.
        muon_learning_rate: Muon's step size.
        weight_decay: How much of a matrix a step takes away, in units of its learning rate.
        beta2: How much of the mean of squared gradients a step of AdamW keeps.
        momentum: How much of the mean of gradients a step of Muon keeps.

    Raises:
        ValueError: A number is out of its range.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        muon_learning_rate: float,
        weight_decay: float,
        beta2: float,
        momentum: float = 0.95,
    ) -> None:
        _check(beta2, learning_rate=learning_rate, muon_learning_rate=muon_learning_rate, weight_decay=weight_decay)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        hidden = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2]
        tables = [p for name, p in named if not name.startswith("blocks.") and p.ndim == 2]
        others = [p for _, p in named if p.ndim != 2]
        self.adamw = torch.optim.AdamW(
            [{"params": tables, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=learning_rate,
            betas=(0.9, beta2),
            fused=True,
        )
        muon = {"params": hidden, "lr": muon_learning_rate, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([muon, *self.adamw.param_groups], defaults={})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters once.

        Args:
            closure: Computes the gradients anew, and returns the loss.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        muon, *self.adamw.param_groups = self.param_groups  # one optimizer, as seen from outside
        self.adamw.state = self.state
        self._muon_step(muon)
        self.adamw.step()
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape.setdefault(matrix.shape, []).append(matrix)
        for (rows, columns), matrices in by_shape.items():  # all matrices of a shape at once
            directions: list[Tensor] = []
            for matrix in matrices:
                assert matrix.grad is not None
                mean = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                directions.append(matrix.grad.lerp(mean, group["momentum"]))  # Nesterov's: a step ahead
            length = group["lr"] * math.sqrt(max(1, rows / columns))
            for matrix, direction in zip(matrices, orthogonalize(torch.stack(directions)), strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=length)


def orthogonalize(matrices: Tensor) -> Tensor:
    """About the nearest orthogonal matrices: of U S Vᵀ nearly U Vᵀ, by the Newton-Schulz iteration.

    It takes every singular value s to a s + b s³ + c s⁵, again and again, which brings those above 0 near to 1.

    Args:
        matrices: (N, R, C)

    Returns:
        (N, R, C) in the same precision; computed in bf16, which is enough.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.transpose(1, 2) if tall else matrices).bfloat16()
    length = cast(Tensor, torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True))
    x = x / (length + 1e-7)  # no singular value is above 1
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).to(matrices.dtype)


def _check(beta2: float, **numbers: float) -> None:
    if not 0 <= beta2 < 1:
        raise ValueError(f"beta2 must be at least 0 and less than 1, got {beta2}")
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0, and a number, got {value}")
