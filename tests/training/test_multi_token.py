"""Multi-token prediction: a second output head for the token after the next, in training only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from minillm.checkpoint.validation import read_checkpoint
from minillm.training.module import LanguageModel
from tests.conftest import CONFIGS
from tests.training.test_recipe import column

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"), "--model.multi_token_weight=0.5")


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(("step", "weight"), [(0, 0.5), (6, 0.2), (9, 0.05)])
def test_the_loss_of_the_token_after_the_next_is_added_with_a_weight_that_falls(
    step: int, weight: float, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    module = LanguageModel(vocab_size=11, context_length=7, embed_dim=12, multi_token_weight=0.5).eval()
    assert module.second_head is not None
    nn.init.normal_(module.second_head.weight)
    module.num_steps, module.hidden_states = 10, module.model.hidden_states
    monkeypatch.setattr(LanguageModel, "global_step", step)
    windows = torch.randint(11, (3, 8))
    with torch.no_grad():
        losses = module.training_step(windows, 0)
        hidden = module.model.hidden_states(windows[:, :-1]).numpy()
    assert isinstance(losses, dict)
    next_scores = log_probabilities(hidden @ module.model.output_head.weight.detach().numpy().T)
    second_scores = log_probabilities(hidden @ module.second_head.weight.detach().numpy().T)
    rows = [(b, t) for b in range(3) for t in range(7)]
    next_loss = -np.mean([next_scores[b, t, windows[b, t + 1]] for b, t in rows])
    second_loss = -np.mean([second_scores[b, t, windows[b, t + 2]] for b, t in rows if t < 6])
    assert losses["train_loss"].item() == pytest.approx(next_loss, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(next_loss + weight * second_loss, rel=1e-5)


def test_checkpoints_are_those_of_a_decoder_and_train_loss_is_that_of_the_next_token(minillm: Run):
    accumulated = ("--trainer.accumulate_grad_batches=2", "--trainer.log_every_n_steps=1")
    code, out, _ = minillm(*FIT, *accumulated)
    assert code == 0
    assert out.startswith("5,456 parameters")  # without the second head
    path = Path("lightning_logs/smoke/version_0/checkpoints/last.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["training_weights"].keys() - saved["state_dict"].keys() == {"second_head.weight"}
    assert saved["training_weights"]["second_head.weight"].abs().max() > 0
    assert read_checkpoint(path).config.weight_shapes().keys() == read_checkpoint(path).weights.keys()
    assert column("train_loss")[1] == pytest.approx(np.log(65), abs=0.05)  # not 1.5 times that
    assert minillm("predict", "--ckpt_path", path, "--prompt=A", "--max_new_tokens=3")[0] == 0
    assert minillm("validate", "--ckpt_path", path, "--trainer.limit_val_batches=2")[0] == 0
    LanguageModel.load_from_checkpoint(path)


def test_it_is_refused_where_there_is_no_token_after_the_next(refused: Callable[..., str]):
    error = refused(*FIT, "--data.context_length=1")
    assert "multi_token_weight needs a context_length of at least 2" in error


@pytest.mark.parametrize("name", ["multi_token_weight", "average_last_steps"])
def test_a_negative_value_is_refused(name: str):
    settings: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match=rf"{name} must be at least 0.*, got -1"):
        LanguageModel(vocab_size=11, context_length=7, **settings)
