import math
from collections.abc import Callable
from dataclasses import asdict
from types import NoneType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from torch.nn import functional as F

from minillm.callbacks.progress import ProgressLines
from minillm.data.datamodule import TextDataModule
from minillm.training.module import LanguageModel
from minillm.training.optimizer import AdamW, Muon, adamw


@pytest.fixture
def module() -> LanguageModel:
    torch.manual_seed(0)
    module = LanguageModel(vocab_size=11, context_length=7, embed_dim=6, num_layers=1, num_heads=3)
    module._trainer = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        loggers=[],
        datamodule=Mock(TextDataModule, chars_per_val_token=2.5),
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
    )
    return module


def logged_into(sink: Callable[[Any], None]) -> Any:
    """Create a `log_dict` that passes its values to a function."""

    def log_dict(values: Any, **kwargs: Any) -> None:
        sink(values)

    return log_dict


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_next_token(module: LanguageModel):
    module.eval()
    windows = torch.randint(11, (5, 8))
    losses = [
        -F.log_softmax(module.model(row[None, : t + 1])[0, -1], dim=0)[row[t + 1]] for row in windows for t in range(7)
    ]
    assert module.loss(windows).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_validation_weights_every_token_equally_in_batches_of_different_sizes(module: LanguageModel):
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


def test_the_test_loop_logs_the_metrics_of_validation(module: LanguageModel):
    module.eval()
    logged: dict[str, float] = {}
    module.log_dict = logged_into(logged.update)
    batch = torch.randint(11, (5, 8))
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    module.test_step(batch, 0)
    module.on_test_epoch_end()
    assert len(logged) == 6
    for name in ("loss", "perplexity", "bits_per_char"):
        assert logged[f"test_{name}"] == logged[f"val_{name}"]


def test_only_the_last_targets_of_sliding_windows_count_with_equal_weights(module: LanguageModel):
    module.eval()
    logged: list[dict[str, float]] = []
    module.log_dict = logged_into(logged.append)
    batches: list[Any] = [[torch.randint(11, (rows, 8)), scored] for rows, scored in ((1, 7), (4, 3), (2, 1))]
    totals: list[float] = []
    for windows, scored in batches:
        losses = -F.log_softmax(module.model(windows[:, :-1]), dim=-1).gather(-1, windows[:, 1:, None])
        totals.append(losses[:, 7 - scored :].sum().item())
    for sliding in (batches, batches[1:], []):  # each validation starts from zero
        for batch in (torch.randint(11, (5, 8)), *sliding):
            module.validation_step(batch, 0)
        module.on_validation_epoch_end()
    first, second, third = (values.get("val_loss_sliding") for values in logged)
    assert first == pytest.approx(sum(totals) / (1 * 7 + 4 * 3 + 2 * 1), rel=1e-6)
    assert second == pytest.approx(sum(totals[1:]) / (4 * 3 + 2 * 1), rel=1e-6)
    assert third is None


def test_each_validation_starts_from_zero(module: LanguageModel):
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


def test_weight_decay_applies_to_matrices_only(module: LanguageModel):
    names = {id(parameter): name for name, parameter in module.model.named_parameters()}
    decayed, undecayed = adamw(module.model, 1e-3, 0.1, 0.99).param_groups
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    undecayed_names = {names[id(parameter)] for parameter in undecayed["params"]}
    assert undecayed_names == {name for name in names.values() if "norm" in name}
    assert len(decayed["params"]) + len(undecayed["params"]) == len(names)


def test_the_first_adamw_step_matches_its_formula():
    """After the weight decay, the first step is the sign of the gradient times the learning rate."""
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
    assert {type(value) for value in dict(module.hparams).values()} <= {int, float, str, bool, NoneType}


def test_a_negative_learning_rate_is_rejected_by_the_constructor():
    with pytest.raises(ValueError, match="learning_rate must be at least 0 and finite, got -1"):
        LanguageModel(vocab_size=11, context_length=7, learning_rate=-1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("warmup_steps", -1), ("decay_fraction", 0), ("decay_fraction", 1.5), ("frozen_blocks", -1), ("frozen_blocks", 3)],
)
def test_a_setting_out_of_range_is_rejected_by_name(name: str, value: float):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value}$"):
        LanguageModel(vocab_size=11, context_length=7, num_layers=2, **{name: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("num_frozen", [0, 1, 2])
def test_frozen_blocks_freezes_the_leading_blocks_only(num_frozen: int):
    module = LanguageModel(vocab_size=11, context_length=7, num_layers=2, frozen_blocks=num_frozen)
    frozen_indices = {name.split(".")[1] for name, p in module.model.named_parameters() if not p.requires_grad}
    assert frozen_indices == {"0", "1"} & {str(index) for index in range(num_frozen)}
    assert all(p.requires_grad for name, p in module.model.named_parameters() if not name.startswith("blocks."))


def test_the_progress_bar_receives_both_losses(
    minillm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    seen: set[str] = set()
    monkeypatch.setattr(
        ProgressLines, "on_train_end", lambda self, trainer, module: seen.update(trainer.progress_bar_metrics)
    )
    assert minillm("fit", "--config", "smoke", "--trainer.max_steps", 10, "--trainer.limit_val_batches", 1)[0] == 0
    assert seen >= {"train_loss", "val_loss"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_optimizer_flag_accepts_both_optimizers(optimizer: str, minillm: Callable[..., tuple[int, str, str]]):
    code, out, err = minillm("fit", "--config", "smoke", "--model.optimizer", optimizer, "--print_config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["model"]["optimizer"] == optimizer


def test_the_optimizers_use_the_settings_of_the_module():
    settings: dict[str, Any] = {"learning_rate": 0.1, "muon_learning_rate": 0.2, "weight_decay": 0.3, "beta2": 0.8}
    adamw_alone, muon = (
        LanguageModel(vocab_size=11, context_length=7, optimizer=optimizer, **settings).configure_optimizers()
        for optimizer in ("adamw", "muon")
    )
    assert (type(adamw_alone), type(muon)) == (AdamW, Muon)
    assert [(group["lr"], group["weight_decay"], group["betas"]) for group in adamw_alone.param_groups] == [
        (0.1, 0.3, (0.9, 0.8)),
        (0.1, 0.0, (0.9, 0.8)),
    ]
    assert [(group["lr"], group["weight_decay"]) for group in muon.param_groups] == [(0.2, 0.3), (0.1, 0.3), (0.1, 0.0)]
    assert [group["betas"] for group in muon.param_groups[1:]] == [(0.9, 0.8)] * 2


def test_hyper_parameters_include_the_defaults_of_the_model(module: LanguageModel):
    assert asdict(module.model.config).items() <= dict(module.hparams).items()
