"""What a recipe can be made of, as a run of the command shows it."""

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
    """Of metrics.csv: values by step."""
    with Path(f"lightning_logs/{run}/version_0/metrics.csv").open() as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def measured(minillm: Run, *flags: object) -> dict[str, float]:
    """What `validate` says."""
    code, out, _ = minillm("validate", *flags)
    assert code == 0
    return {name: float(value) for name, value in re.findall(r"(val_\w+) +│ +([\d.]+)", out)}


def test_the_learning_rate_rises_and_falls_to_the_end_of_the_run(minillm: Run):
    flags = ("--model.schedule=linear", "--model.warmup_steps=4", "--model.learning_rate=0.1")
    assert minillm(*FIT, *flags, "--trainer.log_every_n_steps=1")[0] == 0
    expected = {step: min(1, step / 4) * 0.1 * (1 - (step - 1) / 20) for step in range(1, 21)}
    assert column("lr") == pytest.approx(expected)


def test_it_falls_to_the_end_of_the_epochs_where_these_decide(minillm: Run):
    Path("text.txt").write_text("to be or not to be " * 160)  # 22 batches an epoch
    flags = ("--data.corpus=text.txt", "--trainer.max_steps=-1", "--trainer.max_epochs=2", "--model.learning_rate=1")
    assert minillm(*FIT, *flags, "--model.schedule=linear", "--trainer.log_every_n_steps=11")[0] == 0
    assert column("lr") == pytest.approx({11: 34 / 44, 22: 23 / 44, 33: 12 / 44, 44: 1 / 44})


def test_both_learning_rates_follow_the_schedule(minillm: Run):
    flags = ("--model.optimizer=muon", "--model.muon_learning_rate=0.2", "--model.schedule=linear")
    assert minillm(*FIT, *flags, "--trainer.log_every_n_steps=20")[0] == 0
    assert column("lr") == pytest.approx({20: 0.2 / 20})  # of the first group, Muon's


def test_training_can_stop_early(minillm: Run):
    flags = ("--model.learning_rate=0", f"--trainer.callbacks+={CALLBACKS}.EarlyStopping")
    more = ("--trainer.callbacks.monitor=val_loss", "--trainer.callbacks.patience=2", "--trainer.max_steps=1000")
    assert minillm(*FIT, *flags, *more)[0] == 0
    assert list(column("val_loss")) == [10, 20, 30]


def test_averaged_weights_are_those_that_are_measured_and_kept(minillm: Run):
    decay = ("--trainer.callbacks.decay=0.99", "--model.learning_rate=0.01")
    assert minillm(*FIT, f"--trainer.callbacks+={CALLBACKS}.EMAWeightAveraging", *decay)[0] == 0
    averaged = column("val_loss")[20]
    assert measured(minillm, "--trainer.limit_val_batches=20")["val_loss"] == pytest.approx(averaged, abs=1e-6)
    assert minillm(*FIT, "--model.learning_rate=0.01", "--name=plain")[0] == 0
    assert averaged > column("val_loss", "plain")[20] + 0.01  # they lag, while the loss falls


def test_validation_measures_sliding_windows_as_a_number_of_its_own(minillm: Run):
    Path("text.txt").write_text("to be or not to be " * 20)
    assert minillm(*FIT, "--data.corpus=text.txt", "--trainer.limit_val_batches=null")[0] == 0
    assert "val_loss_sliding" not in Path("lightning_logs/smoke/version_0/metrics.csv").read_text()
    fewest, most = (measured(minillm, f"--data.stride={stride}") for stride in (16, 1))
    assert fewest["val_loss"] == most["val_loss"] == pytest.approx(column("val_loss")[20], abs=1e-6)
    assert fewest["val_loss_sliding"] == pytest.approx(fewest["val_loss"], abs=0.02)  # other windows at the end only
    assert most["val_loss_sliding"] != fewest["val_loss_sliding"]


def test_a_model_can_be_measured_on_plays_that_it_has_not_seen(minillm: Run):
    assert minillm(*FIT)[0] == 0
    seen, unseen = (
        measured(minillm, "--trainer.limit_val_batches=20", *flags) for flags in ([], ["--data.val_corpus=other_plays"])
    )
    assert seen["val_loss"] != unseen["val_loss"] == pytest.approx(seen["val_loss"], abs=0.3)
