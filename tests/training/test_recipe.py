"""Training recipes: schedules, early stopping, weight averaging and evaluation, run through the command line."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"))
CALLBACKS = "lightning.pytorch.callbacks"


def column(name: str, run: str = "smoke") -> dict[int, float]:
    """Read a column of metrics.csv as values by step."""
    with Path(f"lightning_logs/{run}/version_0/metrics.csv").open() as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def validate(minillm: Run, *flags: object) -> dict[str, float]:
    """Run `validate`, and return the metrics that it prints."""
    code, out, _ = minillm("validate", *flags)
    assert code == 0
    return {name: float(value) for name, value in re.findall(r"(val_\w+) +│ +([\d.]+)", out)}


def test_the_learning_rate_warms_up_and_decays_until_the_last_step(minillm: Run):
    flags = ("--model.schedule=linear", "--model.warmup_steps=4", "--model.learning_rate=0.1")
    assert minillm(*FIT, *flags, "--trainer.log_every_n_steps=1")[0] == 0
    expected = {step: min(1, step / 4) * 0.1 * (1 - (step - 1) / 20) for step in range(1, 21)}
    assert column("lr") == pytest.approx(expected)


def test_the_learning_rate_decays_until_the_last_epoch_if_max_epochs_is_the_limit(minillm: Run):
    Path("text.txt").write_text("to be or not to be " * 160)  # 22 batches per epoch
    flags = ("--data.corpus=text.txt", "--trainer.max_steps=-1", "--trainer.max_epochs=2", "--model.learning_rate=1")
    assert minillm(*FIT, *flags, "--model.schedule=linear", "--trainer.log_every_n_steps=11")[0] == 0
    assert column("lr") == pytest.approx({11: 34 / 44, 22: 23 / 44, 33: 12 / 44, 44: 1 / 44})


def test_both_learning_rates_follow_the_schedule(minillm: Run):
    flags = ("--model.optimizer=muon", "--model.muon_learning_rate=0.2", "--model.schedule=linear")
    assert minillm(*FIT, *flags, "--trainer.log_every_n_steps=20")[0] == 0
    assert column("lr") == pytest.approx({20: 0.2 / 20})  # the first parameter group is Muon's


def test_early_stopping_ends_training_when_val_loss_does_not_improve(minillm: Run):
    flags = ("--model.learning_rate=0", f"--trainer.callbacks+={CALLBACKS}.EarlyStopping")
    more = ("--trainer.callbacks.monitor=val_loss", "--trainer.callbacks.patience=2", "--trainer.max_steps=1000")
    assert minillm(*FIT, *flags, *more)[0] == 0
    assert list(column("val_loss")) == [10, 20, 30]


def test_averaged_weights_are_validated_and_saved(minillm: Run):
    decay = ("--trainer.callbacks.decay=0.99", "--model.learning_rate=0.01")
    assert minillm(*FIT, f"--trainer.callbacks+={CALLBACKS}.EMAWeightAveraging", *decay)[0] == 0
    averaged = column("val_loss")[20]
    assert validate(minillm, "--trainer.limit_val_batches=20")["val_loss"] == pytest.approx(averaged, abs=1e-6)
    assert minillm(*FIT, "--model.learning_rate=0.01", "--name=plain")[0] == 0
    assert averaged > column("val_loss", "plain")[20] + 0.01  # averaged weights lag behind while the loss falls


def test_sliding_windows_are_measured_separately_from_val_loss(minillm: Run):
    Path("text.txt").write_text("to be or not to be " * 20)
    assert minillm(*FIT, "--data.corpus=text.txt", "--trainer.limit_val_batches=null")[0] == 0
    assert "val_loss_sliding" not in Path("lightning_logs/smoke/version_0/metrics.csv").read_text()
    stride_16, stride_1 = (validate(minillm, f"--data.stride={stride}") for stride in (16, 1))
    assert stride_16["val_loss"] == stride_1["val_loss"] == pytest.approx(column("val_loss")[20], abs=1e-6)
    assert stride_16["val_loss_sliding"] == pytest.approx(
        stride_16["val_loss"], abs=0.02
    )  # only the last windows differ
    assert stride_1["val_loss_sliding"] != stride_16["val_loss_sliding"]


def test_a_model_can_be_validated_on_another_corpus(minillm: Run):
    assert minillm(*FIT)[0] == 0
    seen, unseen = (
        validate(minillm, "--trainer.limit_val_batches=20", *flags) for flags in ([], ["--data.val_corpus=other_plays"])
    )
    assert seen["val_loss"] != unseen["val_loss"] == pytest.approx(seen["val_loss"], abs=0.3)
