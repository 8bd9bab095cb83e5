"""The average of the weights over the last steps of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import CONFIGS
from tests.training.test_recipe import column, validate

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"), "--model.learning_rate=0.01")


def checkpoint(run: str, name: str) -> dict[str, Any]:
    return torch.load(f"lightning_logs/{run}/version_0/checkpoints/{name}.ckpt", weights_only=True)


def test_checkpoints_have_the_mean_of_the_weights_after_the_last_steps(minillm: Run):
    assert minillm(*FIT, "--name=plain", "--checkpoints.keep_every_n_steps=1")[0] == 0
    assert minillm(*FIT, "--name=averaged", "--model.average_last_steps=4")[0] == 0
    plain = {step: checkpoint("plain", f"step_{step}")["state_dict"] for step in (17, 18, 19, 20)}
    last = checkpoint("averaged", "last")
    assert last["num_averaged"] == 4
    for name, weight in last["state_dict"].items():
        mean = torch.stack([plain[step][name].double() for step in plain]).mean(dim=0)
        torch.testing.assert_close(weight.double(), mean, atol=1e-7, rtol=1e-5)
        assert torch.equal(last["training_weights"][name], plain[20][name])
    assert not torch.equal(last["state_dict"]["model.output_head.weight"], plain[20]["model.output_head.weight"])


def test_the_average_is_validated_and_the_best_checkpoint(minillm: Run):
    assert minillm(*FIT, "--name=plain")[0] == 0
    assert minillm(*FIT, "--name=averaged", "--model.average_last_steps=6")[0] == 0
    plain, averaged = column("val_loss", "plain"), column("val_loss", "averaged")
    assert averaged[10] == plain[10]
    assert averaged[20] != plain[20]
    best = Path("lightning_logs/averaged/version_0/checkpoints/best.ckpt")
    found = validate(minillm, "--ckpt_path", best, "--trainer.limit_val_batches=20")["val_loss"]
    assert found == pytest.approx(averaged[20], abs=1e-6)
    samples = [Path(f"lightning_logs/{name}/version_0/samples.md").read_text() for name in ("plain", "averaged")]
    assert samples[0].split("## Step 20")[0] == samples[1].split("## Step 20")[0]
    assert samples[0] != samples[1]


def test_a_longer_run_continues_with_the_weights_of_training(minillm: Run):
    flags = ("--model.average_last_steps=4", "--trainer.val_check_interval=5")
    assert minillm(*FIT, *flags, "--name=whole", "--trainer.max_steps=30")[0] == 0
    assert minillm(*FIT, *flags, "--name=extended")[0] == 0
    last = Path("lightning_logs/extended/version_0/checkpoints/last.ckpt")
    assert minillm(*FIT, *flags, "--name=extended", "--trainer.max_steps=30", "--ckpt_path", last)[0] == 0
    whole, extended = (checkpoint(name, "last") for name in ("whole", "extended"))
    assert (whole["num_averaged"], extended["num_averaged"]) == (4, 4)
    for weights in ("state_dict", "training_weights"):
        assert all(torch.equal(weight, extended[weights][name]) for name, weight in whole[weights].items())


def test_a_resumed_run_without_an_average_continues_with_the_weights_of_training(minillm: Run):
    assert minillm(*FIT, "--name=averaged", "--model.average_last_steps=4")[0] == 0
    assert minillm(*FIT, "--name=plain", "--trainer.max_steps=22")[0] == 0
    last = Path("lightning_logs/averaged/version_0/checkpoints/last.ckpt")
    flags = ("--name=averaged", "--model.average_last_steps=0", "--trainer.max_steps=22", "--ckpt_path", last)
    assert minillm(*FIT, *flags)[0] == 0
    plain, resumed = (checkpoint(name, "last") for name in ("plain", "averaged"))
    assert "training_weights" not in resumed
    assert all(torch.equal(weight, resumed["state_dict"][name]) for name, weight in plain["state_dict"].items())


def test_a_run_is_averaged_as_a_whole_if_it_is_shorter(minillm: Run):
    assert minillm(*FIT, "--model.average_last_steps=100")[0] == 0
    assert checkpoint("smoke", "last")["num_averaged"] == 20
