import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.config import ModelConfig
from minillm.model import Decoder
from minillm.training.dynamic_evaluation import dynamic_loss

Run = Callable[..., tuple[int, str, str]]


class Unigram(nn.Module):
    """A model whose logits are a bias (V,) in every context."""

    def __init__(self, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(context_length=context_length)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, ids: Tensor) -> Tensor:
        return self.bias.expand(*ids.shape, -1)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_it_is_gradient_descent_on_the_targets_already_scored(stride: int):
    V, T, rate = 3, 5, 0.7
    tokens = torch.randint(V, (18,), generator=torch.Generator().manual_seed(0))
    bias, total = np.zeros(V), 0.0
    for targets in [tokens[1 : T + 1], *tokens[T + 1 :].split(stride)]:  # the gradient of a softmax is p - onehot
        targets = targets.numpy()
        p = np.exp(bias) / np.exp(bias).sum()
        total -= np.log(p[targets]).sum()
        bias -= rate * (p - np.bincount(targets, minlength=V) / len(targets))
    assert dynamic_loss(Unigram(V, T), tokens, rate, stride, show_progress=False) == pytest.approx(
        total / (len(tokens) - 1), rel=1e-6
    )


def test_without_learning_it_is_the_loss_and_the_model_is_never_changed():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=7, context_length=6, embed_dim=12, num_layers=2, num_heads=3, dropout=0.5)
    model, tokens = Decoder(config).train(), torch.randint(7, (200,))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.inference_mode():
        learned = dynamic_loss(model, tokens, 0.5, stride=6, show_progress=False)
        static = dynamic_loss(model, tokens, 0.0, stride=6, show_progress=False)
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    model.eval()
    windows = [tokens[start : start + 7] for start in range(0, 193, 6)]
    with torch.no_grad():
        losses = [F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum") for window in windows]
        last = F.cross_entropy(model(tokens[None, 193:199])[0, -1:], tokens[199:], reduction="sum")  # 199 = 33 * 6 + 1
    assert static == pytest.approx(float(torch.stack([*losses, last]).sum()) / 199, rel=1e-5)
    assert learned != static


def test_frozen_blocks_learn_while_they_read(in_smoke_run: Path):
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=7, context_length=6, embed_dim=12, num_layers=1, num_heads=3)
    model, tokens = Decoder(config), torch.randint(7, (100,))
    expected = dynamic_loss(model, tokens, 0.5, stride=2, show_progress=False)
    assert dynamic_loss(model.requires_grad_(False), tokens, 0.5, stride=2, show_progress=False) == expected


def test_validate_and_test_report_it_under_its_own_name(in_smoke_run: Path, minillm: Run):
    Path("short.txt").write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n" * 40)
    flags = ("--ckpt_path", in_smoke_run, "--data.val_corpus", "short.txt")
    plain = minillm("validate", *flags)[1]
    code, out, err = minillm("validate", *flags, "--model.dynamic_learning_rate", 0.02)
    assert code == 0, err
    losses = {name: float(value) for name, value in re.findall(r"(val_loss\w*)\W+([\d.]+)", out)}
    assert losses.keys() == {"val_loss", "val_loss_sliding", "val_loss_dynamic"}
    assert losses["val_loss_dynamic"] < losses["val_loss"]
    assert re.findall(r"val_loss\W+([\d.]+)", plain) == re.findall(r"val_loss\W+([\d.]+)", out)
    assert "dynamic" not in plain
    assert "dynamic evaluation" in err
    limited = minillm("validate", *flags, "--model.dynamic_learning_rate", 0.02, "--trainer.limit_val_batches", 2)[1]
    found = {name: float(value) for name, value in re.findall(r"(val_loss\w*)\W+([\d.]+)", limited)}
    assert found.keys() == {"val_loss", "val_loss_dynamic"}  # the first two batches are consecutive windows
    assert found["val_loss_dynamic"] != losses["val_loss_dynamic"]
    assert "test_loss_dynamic" in minillm("test", *flags, "--model.dynamic_learning_rate", 0)[1]


def test_fit_does_not_measure_it(in_smoke_run: Path, minillm: Run):
    flags = ("--config", "smoke", "--trainer.max_steps", 2, "--model.dynamic_learning_rate", 0.02)
    code, out, err = minillm("fit", *flags)
    assert code == 0, err
    assert "dynamic" not in out
    assert "dynamic" not in Path("lightning_logs/smoke/version_1/metrics.csv").read_text()


def test_a_negative_rate_is_refused(in_smoke_run: Path, refused: Callable[..., str]):
    error = refused("validate", "--ckpt_path", in_smoke_run, "--model.dynamic_learning_rate", -1)
    assert "dynamic_learning_rate must be at least 0 and finite, got -1.0" in error
