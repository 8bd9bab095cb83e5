import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.nn import functional as F

from minillm.data.datamodule import TextDataModule
from minillm.training.module import LanguageModel
from minillm.training.optimizer import adamw


@pytest.fixture
def module() -> LanguageModel:
    torch.manual_seed(0)
    module = LanguageModel(vocab_size=11, context_length=7, embed_dim=6, num_layers=1, num_heads=3)
    module._trainer = SimpleNamespace(loggers=[], datamodule=Mock(TextDataModule, chars_per_val_token=2.5))  # pyright: ignore[reportAttributeAccessIssue]
    return module


def test_the_loss_is_the_mean_surprise_of_the_next_token(module: LanguageModel):
    module.eval()
    windows = torch.randint(11, (5, 8))
    surprises = [
        -F.log_softmax(module.model(row[None, : t + 1])[0, -1], dim=0)[row[t + 1]] for row in windows for t in range(7)
    ]
    assert module.training_step(windows, 0).item() == pytest.approx(torch.stack(surprises).mean().item(), rel=1e-5)


def logged_into(take: Callable[[Any], None]) -> Any:
    """A `log_dict` that hands on its values."""

    def log_dict(values: Any, **how: Any) -> None:
        take(values)

    return log_dict


def test_validation_weighs_every_token_alike_whatever_its_batch(module: LanguageModel):
    module.eval()
    logged: dict[str, float] = {}
    module.log_dict = logged_into(logged.update)
    batches = [torch.randint(11, shape) for shape in ((5, 8), (3, 8), (1, 3))]
    for batch in batches:
        module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    total = sum(
        F.cross_entropy(module.model(b[:, :-1]).flatten(end_dim=1), b[:, 1:].flatten(), reduction="sum").item()
        for b in batches
    )
    loss = total / (5 * 7 + 3 * 7 + 1 * 2)
    assert logged == pytest.approx(
        {"val_loss": loss, "val_perplexity": math.exp(loss / 2.5), "val_bits_per_char": loss / 2.5 / math.log(2)},
        rel=1e-6,
    )


def test_a_second_validation_starts_from_nothing(module: LanguageModel):
    module.eval()
    logged: list[dict[str, float]] = []
    module.log_dict = logged_into(logged.append)
    batch = torch.randint(11, (5, 8))
    for windows in (batch, torch.randint(11, (5, 8)), batch):
        module.validation_step(windows, 0)
        module.on_validation_epoch_end()
    assert logged[0] == logged[2] != logged[1]


@pytest.mark.parametrize(("algorithm", "expected"), [("norm", 0.1), (None, 0.1), ("value", 0.1 * 6**0.5)])
def test_gradients_are_clipped_by_norm_or_by_value(module: LanguageModel, algorithm: str | None, expected: float):
    for parameter in module.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    module.model.final_norm.weight.grad = torch.tensor([7.0, -7, 7, -7, 7, -7])
    module.configure_gradient_clipping(module.configure_optimizers(), 0.1, algorithm)
    assert module.model.final_norm.weight.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_only_matrices_decay(module: LanguageModel):
    names = {id(parameter): name for name, parameter in module.model.named_parameters()}
    decayed, others = adamw(module.model, 1e-3, 0.1, 0.99).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    kept = {names[id(parameter)] for parameter in others["params"]}
    assert kept == {name for name in names.values() if "norm" in name}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_a_step_of_adamw_is_that_of_its_formula():
    """Loshchilov and Hutter's first step: the gradient's sign times the learning rate, after the decay."""
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -5.0]]))
        layer.bias.fill_(7.0)
    optimizer = adamw(layer, learning_rate=0.1, weight_decay=0.2, beta2=0.999)
    layer(torch.tensor([2.0, -11.0])).sum().backward()
    optimizer.step()
    decay = 1 - 0.1 * 0.2
    torch.testing.assert_close(layer.weight, torch.tensor([[3 * decay - 0.1, -5 * decay + 0.1]]))
    torch.testing.assert_close(layer.bias, torch.tensor([7 - 0.1]))


def test_hyper_parameters_are_plain_values(module: LanguageModel):
    assert {type(value) for value in dict(module.hparams).values()} <= {int, float, str, bool}


def test_a_wrong_learning_rate_is_refused_at_once():
    with pytest.raises(ValueError, match="learning_rate must be at least 0, and a number, got -1"):
        LanguageModel(vocab_size=11, context_length=7, learning_rate=-1)
