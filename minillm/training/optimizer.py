"""Optimizers: AdamW for all parameters, or Muon for the matrices inside the blocks and AdamW for the rest."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from minillm.training.hardware import multiplies_bf16

# a, b, c: chosen by Muon's author to raise small singular values fast
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5  # singular values from 0.005 to 1 end between about 0.7 and 1.2
TOKEN_TABLES = ("token_embedding", "output_head")  # modules of a decoder whose weights have a row per token


@dataclass(frozen=True)
class RowGroups:
    """Groups of the rows of embedding tables; the rows of a group belong to similar tokens.

    Args:
        tables: Matrices (V, C) with a row per token.
        group_of: (V,) index of each token's group.
    """

    tables: list[Tensor]
    group_of: Tensor


def token_tables(model: nn.Module) -> list[Tensor]:
    """Return the weights of a model that have a row per token and are trained: of its embedding and its output head."""
    weights: list[Any] = [getattr(getattr(model, name, None), "weight", None) for name in TOKEN_TABLES]
    return [weight for weight in weights if isinstance(weight, nn.Parameter) and weight.requires_grad]


class AdamW(torch.optim.AdamW):
    """AdamW that can also update groups of rows of embedding tables together.

    It trains a table W as the sum of two tables: a row of its own for each token, and a row for each group g of tokens:

        W[token] = own[token] + shared[g(token)]

    The gradient of a shared row is the sum of those of its tokens. Both tables have the same learning rate and weight
    decay, so that only their sum is stored: a step adds AdamW's step of `shared` to W after its step of `own`.

    Args:
        params: Parameters or parameter groups, which contain the tables; the last group is that without weight decay.
        rows: Tables and groups of tokens; None to train each row on its own.
        kwargs: Further arguments of `torch.optim.AdamW`.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """

    def __init__(self, params: list[dict[str, Any]], rows: RowGroups | None = None, **kwargs: Any) -> None:
        self.rows, self.shared = rows, list[Tensor]()
        if rows is not None:
            num_groups = int(rows.group_of.max()) + 1
            self.shared = [table.new_zeros(num_groups, table.shape[1]) for table in rows.tables]
            params = [*params, {"params": self.shared, "weight_decay": 0.0}]
        super().__init__(params, **kwargs)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one optimization step.

        Args:
            closure: Recomputes the gradients and returns the loss.

        Returns:
            The loss that the closure returned; None without a closure.
        """
        loss = _evaluate(closure)
        if self.rows is None:
            super().step()
            return loss
        group_of = self.rows.group_of.to(self.shared[0].device)
        for table, shared in zip(self.rows.tables, self.shared, strict=True):
            shared.zero_()
            shared.grad = None if table.grad is None else torch.zeros_like(shared).index_add_(0, group_of, table.grad)
        super().step()
        for table, shared in zip(self.rows.tables, self.shared, strict=True):
            table.add_(shared[group_of])
        return loss


def adamw(
    model: nn.Module, learning_rate: float, weight_decay: float, beta2: float, rows: RowGroups | None = None
) -> AdamW:
    """Create AdamW with weight decay for matrices only: norm weights, QK scales and token-shift mixes are not decayed.

    Args:
        model: Model whose parameters are optimized, except for frozen ones.
        learning_rate: Learning rate.
        weight_decay: Decoupled weight decay: a step multiplies a matrix by 1 - learning_rate * weight_decay.
        beta2: Decay of the second moment.
        rows: Embedding tables with groups of rows that are also updated together.

    Raises:
        ValueError: A value is out of range.
    """
    _check_decays(beta2=beta2)
    check_values(learning_rate=learning_rate, weight_decay=weight_decay)
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim == 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, rows, lr=learning_rate, betas=(0.9, beta2), fused=True)


class Muon(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for all other parameters.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix, which has the same singular vectors with
    equal singular values. So directions with small singular values get updates as large as those with large ones.

    Args:
        model: Model whose parameters are optimized, except for frozen ones; it has `blocks`, or a part of it.
        learning_rate: Learning rate of AdamW.
        muon_learning_rate: Learning rate of Muon.
        weight_decay: Decoupled weight decay of AdamW's matrices, relative to its learning rate.
        beta2: Decay of AdamW's second moment.
        muon_weight_decay: The same for Muon's matrices; None is `weight_decay`.
        momentum: Decay of Muon's momentum, an exponential moving average of the gradients.
        rows: Embedding tables with groups of rows that AdamW also updates together.

    Raises:
        ValueError: A value is out of range.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        muon_learning_rate: float,
        weight_decay: float,
        beta2: float,
        muon_weight_decay: float | None = None,
        momentum: float = 0.95,
        rows: RowGroups | None = None,
    ) -> None:
        muon_weight_decay = weight_decay if muon_weight_decay is None else muon_weight_decay
        _check_decays(beta2=beta2, muon_momentum=momentum)
        check_values(muon_weight_decay=muon_weight_decay)
        check_values(learning_rate=learning_rate, muon_learning_rate=muon_learning_rate, weight_decay=weight_decay)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        hidden = [p for name, p in named if ".blocks." in f".{name}" and p.ndim == 2]
        tables = [p for name, p in named if ".blocks." not in f".{name}" and p.ndim == 2]
        others = [p for _, p in named if p.ndim != 2]
        self.adamw = AdamW(
            [{"params": tables, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}],
            rows,
            lr=learning_rate,
            betas=(0.9, beta2),
            fused=True,
        )
        muon = {"params": hidden, "lr": muon_learning_rate, "weight_decay": muon_weight_decay, "momentum": momentum}
        super().__init__([muon, *self.adamw.param_groups], defaults={})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one optimization step.

        Args:
            closure: Recomputes the gradients and returns the loss.

        Returns:
            The loss that the closure returned; None without a closure.
        """
        loss = _evaluate(closure)
        muon, *self.adamw.param_groups = self.param_groups  # `load_state_dict` replaces groups and state of self only
        self.adamw.state = self.state
        self._muon_step(muon)
        self.adamw.step()
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape.setdefault(matrix.shape, []).append(matrix)
        for (rows, columns), matrices in by_shape.items():  # matrices of one shape are orthogonalized as a batch
            directions: list[Tensor] = []
            for matrix in matrices:
                assert matrix.grad is not None
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                directions.append(matrix.grad.lerp(momentum, group["momentum"]))  # Nesterov momentum
            step_size = group["lr"] * math.sqrt(max(1, rows / columns))
            for matrix, direction in zip(matrices, orthogonalize(torch.stack(directions)), strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=step_size)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximate the nearest orthogonal matrices, U Vᵀ for U S Vᵀ, by Newton-Schulz iteration.

    Each iteration maps every singular value s to a s + b s³ + c s⁵, which brings the positive ones close to 1.

    Args:
        matrices: (N, R, C)

    Returns:
        (N, R, C) of the same dtype; computed in bf16, which is precise enough, or in float32 where bf16 is emulated.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    dtype = torch.bfloat16 if multiplies_bf16(matrices.device.type) else torch.float32
    x = (matrices.transpose(1, 2) if tall else matrices).to(dtype)
    norm = cast(Tensor, torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True))
    x = x / (norm + 1e-7)  # the Frobenius norm bounds the singular values: none is above 1
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).to(matrices.dtype)


def _evaluate(closure: Callable[[], Any] | None) -> Any:
    """Compute the gradients and return the loss; without a closure, they have been computed before."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _check_decays(**decays: float) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {value}")


def check_values(**values: float) -> None:
    """Raise a ValueError that names the first value that is not at least 0 and finite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}")
