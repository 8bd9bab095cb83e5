import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from minillm.config import ModelConfig
from minillm.model import Decoder
from minillm.training.optimizer import Muon, RowGroups, adamw, orthogonalize, token_tables


def decoder() -> Decoder:
    torch.manual_seed(0)
    options: dict[str, Any] = {"query_key_norm": True, "token_shift": True}
    return Decoder(ModelConfig(11, 7, embed_dim=6, num_layers=2, num_heads=3, dropout=0.0, **options))


def set_random_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_muon_matches_torch_muon_on_hidden_matrices_and_torch_adamw_on_the_rest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "minillm.training.optimizer.multiplies_bf16", lambda device_type: True
    )  # as torch's always does
    ours, theirs = decoder(), decoder()
    muon = Muon(ours, learning_rate=0.01, muon_learning_rate=0.02, weight_decay=0.1, beta2=0.95)
    named = dict(theirs.named_parameters())
    hidden = [p for name, p in named.items() if name.startswith("blocks") and name.endswith(".weight") and p.ndim == 2]
    tables = [named[name] for name in ("token_embedding.weight", "position_embedding.weight", "output_head.weight")]
    chosen = {id(p) for p in (*hidden, *tables)}
    others = [p for p in named.values() if id(p) not in chosen]
    assert len(hidden) == 8
    reference = [
        torch.optim.Muon(hidden, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True),
        torch.optim.AdamW(tables, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1),
        torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for step in range(5):
        for model in (ours, theirs):
            set_random_gradients(model, step)
        for optimizer in (muon, *reference):
            optimizer.step()
    for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, other, atol=1e-3 if "blocks" in name else 1e-6, rtol=0, msg=name)
        assert not torch.equal(weight, dict(decoder().named_parameters())[name])


@pytest.mark.parametrize("shape", [(5, 5), (3, 11), (11, 3)])
def test_orthogonalize_brings_singular_values_near_one_and_keeps_singular_vectors(shape: tuple[int, int]):
    torch.manual_seed(0)
    matrices = torch.randn(2, *shape)
    found = orthogonalize(matrices)
    assert found.dtype == torch.float32
    assert ((torch.linalg.svdvals(found) > 0.6) & (torch.linalg.svdvals(found) < 1.3)).all()
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    rotated = u.mT @ found @ vh.mT  # diagonal if the singular vectors are the same
    assert (rotated - torch.diag_embed(torch.diagonal(rotated, dim1=1, dim2=2))).abs().max() < 0.05


def test_orthogonalize_maps_zeros_to_zeros():
    zeros = torch.zeros(1, 3, 5)
    assert torch.equal(orthogonalize(zeros), zeros)


def test_a_parameter_without_a_gradient_does_not_change():
    model = decoder()
    before = model.blocks[0].attention.projection.weight.clone()  # pyright: ignore
    Muon(model, 0.01, 0.02, 0.1, 0.95).step()
    assert torch.equal(model.blocks[0].attention.projection.weight, before)  # pyright: ignore


def test_optimization_continues_exactly_from_a_saved_state():
    ours, theirs = decoder(), decoder()
    first, second = (Muon(model, 0.01, 0.02, 0.1, 0.95) for model in (ours, theirs))
    set_random_gradients(ours, 0)
    first.step()
    theirs.load_state_dict(ours.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizer in ((ours, first), (theirs, second)):
        set_random_gradients(model, 1)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("name", ["learning_rate", "muon_learning_rate", "weight_decay", "muon_weight_decay"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_values_out_of_range_are_rejected_by_name(name: str, value: float):
    settings: dict[str, Any] = {
        "learning_rate": 0.01,
        "muon_learning_rate": 0.02,
        "weight_decay": 0.1,
        "beta2": 0.9,
        name: value,
    }
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite, got {value}"):
        Muon(decoder(), **settings)


def test_a_beta2_of_one_is_rejected():
    with pytest.raises(ValueError, match=r"beta2 must be at least 0 and less than 1, got 1\.0"):
        adamw(decoder(), 0.1, 0.1, beta2=1.0)


def test_a_momentum_of_one_is_rejected():
    with pytest.raises(ValueError, match=r"muon_momentum must be at least 0 and less than 1, got 1\.0"):
        Muon(decoder(), 0.1, 0.1, 0.1, beta2=0.9, momentum=1.0)


def test_adamw_matches_torch_adamw_with_the_given_beta2():
    ours, theirs = decoder(), decoder()
    matrices, others = ([p for p in theirs.parameters() if (p.ndim == 2) is matrix] for matrix in (True, False))
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0.01, betas=(0.9, 0.5)
    )
    optimizer = adamw(ours, learning_rate=0.01, weight_decay=0.1, beta2=0.5)
    for step in range(3):
        for model in (ours, theirs):
            set_random_gradients(model, step)
        optimizer.step()
        reference.step()
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, other, atol=1e-6, rtol=0)


def test_step_takes_gradients_from_a_closure_and_returns_its_loss():
    ours, theirs = decoder(), decoder()
    first, second = (Muon(model, 0.01, 0.02, 0.1, 0.95) for model in (ours, theirs))
    ids = torch.randint(11, (2, 7))

    def loss_of(model: nn.Module) -> torch.Tensor:
        loss = model(ids).square().mean()
        loss.backward()
        return loss

    expected = loss_of(theirs)
    second.step()
    assert torch.equal(first.step(lambda: loss_of(ours)), expected)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("norm", [1e-8, 1e-7, 1.5e-7, 1e-6])
def test_the_step_of_a_tiny_gradient_is_bounded(norm: float):
    torch.manual_seed(0)
    matrix = torch.randn(1, 3, 5)
    found = orthogonalize(matrix * (norm / matrix.norm()))
    assert torch.linalg.svdvals(found).max() < 1.3


def test_adamw_rejects_a_negative_weight_decay():
    with pytest.raises(ValueError, match=r"weight_decay must be at least 0 and finite, got -0\.1"):
        adamw(decoder(), 0.1, weight_decay=-0.1, beta2=0.9)


@pytest.mark.parametrize(
    "create", [lambda model: adamw(model, 0.01, 0.1, 0.9), lambda m: Muon(m, 0.01, 0.02, 0.1, 0.9)]
)
def test_frozen_parameters_are_not_optimized(create: Callable[[nn.Module], torch.optim.Optimizer]):
    model = decoder()
    model.blocks[0].requires_grad_(False)
    optimized = {id(parameter) for group in create(model).param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def hidden_matrices(model: Decoder) -> list[torch.Tensor]:
    return [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2]


def test_with_zero_gradients_muon_applies_weight_decay_only():
    model = decoder()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [matrix.detach().clone() for matrix in hidden_matrices(model)]
    Muon(model, learning_rate=0.1, muon_learning_rate=0.5, weight_decay=0.25, beta2=0.9).step()
    for matrix, old in zip(hidden_matrices(model), before, strict=True):
        torch.testing.assert_close(matrix.detach(), old * (1 - 0.5 * 0.25))


def test_muon_momentum_is_the_exponential_moving_average_of_gradients():
    model = decoder()
    optimizer = Muon(model, 0.01, 0.02, 0.1, 0.95, momentum=0.75)
    gradients: list[list[torch.Tensor | None]] = []
    for step in range(2):
        set_random_gradients(model, step)
        gradients.append([matrix.grad for matrix in hidden_matrices(model)])
        optimizer.step()
    for matrix, first, second in zip(hidden_matrices(model), *gradients, strict=True):
        assert list(optimizer.state[matrix]) == ["momentum"]
        torch.testing.assert_close(optimizer.state[matrix]["momentum"], 0.25 * second + 0.75 * 0.25 * first)


def test_all_settings_accept_zero():
    assert adamw(decoder(), 0.0, 0.0, beta2=0.0).param_groups[0]["betas"] == (0.9, 0.0)
    assert [group["lr"] for group in Muon(decoder(), 0.0, 0.0, 0.0, beta2=0.0).param_groups] == [0, 0, 0]


@pytest.mark.parametrize("create", [adamw, lambda model, **kwargs: Muon(model, muon_learning_rate=0.0, **kwargs)])
def test_row_groups_train_a_table_as_the_sum_of_own_and_shared_rows(create: Callable[..., torch.optim.Optimizer]):
    """Compared with a table that is stored in two parts, and trained by torch's AdamW."""
    ours, theirs = decoder(), decoder()
    group_of = torch.tensor([0, 1, 2, 0, 1, 3, 4, 0, 5, 6, 6])
    optimizer = create(
        ours, learning_rate=0.01, weight_decay=0.1, beta2=0.95, rows=RowGroups(token_tables(ours), group_of)
    )
    own = [table.detach().clone().requires_grad_() for table in token_tables(theirs)]
    shared = [torch.zeros(7, 6, requires_grad=True) for _ in own]
    reference = torch.optim.AdamW([*own, *shared], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        gradients = [torch.randn(11, 6, generator=generator) for _ in own]
        for table, gradient in zip(token_tables(ours), gradients, strict=True):
            table.grad = gradient.clone()
        reference.zero_grad()
        for a, b, gradient in zip(own, shared, gradients, strict=True):
            ((a + b[group_of]) * gradient).sum().backward()
        optimizer.step()
        reference.step()
        for table, a, b in zip(token_tables(ours), own, shared, strict=True):
            torch.testing.assert_close(table, a + b[group_of], atol=1e-6, rtol=0)


def test_row_groups_continue_exactly_from_a_saved_state():
    models, group_of = [decoder(), decoder()], torch.tensor([0, 1, 2, 0, 1, 3, 4, 0, 5, 6, 6])
    first, second = (
        Muon(model, 0.01, 0.02, 0.1, 0.95, rows=RowGroups(token_tables(model), group_of)) for model in models
    )
    set_random_gradients(models[0], 0)
    first.step()
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizer in zip(models, (first, second), strict=True):
        set_random_gradients(model, 1)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_a_frozen_table_has_no_row_groups():
    model = decoder()
    model.token_embedding.requires_grad_(False)
    assert token_tables(model) == [model.output_head.weight]
