"""Messages and exit codes of training runs that end early."""

import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from minillm import load
from tests.conftest import CONFIGS
from tests.processes import ForkedCommand

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"))
LAST = Path("lightning_logs/smoke/version_0/checkpoints/last.ckpt")
CONFIG = LAST.parent.parent / "config.yaml"
MORE = ("--ckpt_path", "last", "--trainer.max_steps", 60)


@pytest.fixture(autouse=True)
def _trained(in_smoke_run: Path) -> None:
    """The working folder of every test has a run of 20 steps."""


ENDLESS = (*FIT, "--trainer.max_steps", 1000000)
Start = Callable[..., ForkedCommand]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_the_training_state_and_stops(signum: signal.Signals, code: int, start: Start):
    process = start(*ENDLESS)
    process.wait_for("step 10/")
    process.send_signal(signum)
    result, _, err = process.result()
    assert (result, err.count("\n")) == (code, 2)
    assert err.startswith("minillm: stopping after this step (and its validation); a second signal stops immediately\n")
    name, step, path = re.findall(r"stopped by (\w+) after step (\d+); .* --ckpt_path (\S+)$", err)[0]
    assert (name, torch.load(path, weights_only=True)["global_step"]) == (signum.name, int(step))


def test_second_ctrl_c_stops_immediately(start: Start):
    process = start(*ENDLESS, "--trainer.callbacks", "tests.training.interrupt.Sleep")
    process.wait_for("asleep")
    process.send_signal(signal.SIGINT)
    assert not process.has_ended_within(1)  # still finishing its step
    process.send_signal(signal.SIGINT)
    code, _, err = process.result()
    assert code == 130
    assert "minillm: stopped immediately; step 10 is saved; resume with: minillm fit --config " in err


def test_infinite_or_nan_loss_stops_training_and_keeps_the_last_checkpoint(minillm: Run):
    code, _, err = minillm(*FIT, *MORE, "--model.learning_rate", 1e30)
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(r"the loss is NaN or infinite at step 2\d, with learning rate 1e\+30: try a lower", err)
    assert f"step 20 is saved; resume with: minillm fit --config {CONFIG} --ckpt_path {LAST}\n" in err
    load(LAST)


def test_infinite_or_nan_weights_are_never_saved(minillm: Run):
    before = LAST.read_bytes()
    code, _, err = minillm(*FIT, *MORE, "--model.learning_rate", 1e39, "--checkpoints.every_n_train_steps", 1)
    assert code == 2
    assert "is NaN or infinite after step 21" in err
    assert LAST.read_bytes() == before


def test_full_disk_leaves_the_previous_checkpoint_intact(minillm: Run):
    assert (
        minillm("validate", "--ckpt_path", "last", "--trainer.limit_val_batches", 1)[0] == 0
    )  # caches the token ids of the checkpoint's tokenizer
    before = LAST.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))  # maximum file size
    try:
        code, _, err = minillm(*FIT, *MORE, "--checkpoints.every_n_train_steps", 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, err) == (
        2,
        f"minillm: error: {LAST}: File too large; step 20 is saved; "
        f"resume with: minillm fit --config {CONFIG} --ckpt_path {LAST}\n",
    )
    assert LAST.read_bytes() == before
    assert {path.name for path in LAST.parent.iterdir()} == {"best.ckpt", "last.ckpt"}
    load(LAST)


def test_deleted_run_folder_is_a_one_line_error(minillm: Run):
    code, _, err = minillm(*FIT, *MORE, "--trainer.callbacks", "tests.training.interrupt.DeleteRunFolder")
    assert (code, err.count("\n")) == (2, 1)
    assert "version_0" in err
    assert "No such file or directory" in err


def test_resuming_a_finished_run_prints_a_message_and_writes_nothing(minillm: Run):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    code, out, err = minillm(*FIT, "--ckpt_path", "last")
    assert (code, err) == (0, "")
    assert "is at step 20: training is complete (to continue, raise --trainer.max_steps or max_epochs)" in out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_resuming_from_an_older_checkpoint_starts_a_new_run_folder(minillm: Run):
    older = LAST.with_name("older.ckpt")
    older.write_bytes(LAST.read_bytes())
    assert minillm(*FIT, *MORE)[0] == 0
    before = {path: path.read_bytes() for path in LAST.parent.parent.rglob("*") if path.is_file()}
    code, out, _ = minillm(*FIT, "--ckpt_path", older, "--trainer.max_steps", 30)
    assert code == 0
    assert "from step 20, writing to lightning_logs/smoke/version_1" in out
    assert {path: path.read_bytes() for path in before} == before


def test_changed_settings_are_printed_and_the_previous_config_is_kept(minillm: Run):
    before = CONFIG.read_text()
    code, out, _ = minillm(*FIT, *MORE, "--trainer.gradient_clip_val", 0.5)
    assert code == 0
    assert re.findall(r"^changed from here on: (.*)$", out, re.MULTILINE) == [
        "--trainer.max_steps 20 -> 60",
        "--trainer.gradient_clip_val None -> 0.5",
    ]
    assert CONFIG.with_name("config_until_step_20.yaml").read_text() == before


def test_last_is_last_ckpt_regardless_of_modification_times(minillm: Run):
    minillm(*FIT, *MORE, "--trainer.limit_val_batches", 0)
    LAST.with_name("best.ckpt").touch()
    code, out, _ = minillm(*FIT, "--ckpt_path", "last", "--trainer.max_steps", 70)
    assert code == 0
    assert "from step 60, writing to lightning_logs/smoke/version_0" in out


def test_run_finished_by_max_epochs_is_complete(minillm: Run):
    epochs = (*FIT, "--trainer.max_steps", -1, "--trainer.limit_train_batches", 7, "--trainer.max_epochs")
    assert minillm(*epochs, 2)[0] == 0
    assert "is at step 14: training is complete" in minillm(*epochs, 2, "--ckpt_path", "last")[1]
    assert "step 21/21" in minillm(*epochs, 3, "--ckpt_path", "last")[1]


def test_run_resumes_in_its_version_and_another_name_starts_a_new_run(minillm: Run):
    fit_version = (*FIT, "--version", 5)
    assert minillm(*fit_version)[0] == 0
    assert "writing to lightning_logs/smoke/version_5" in minillm(*fit_version, *MORE)[1]
    run = LAST.parents[2] / "version_5"
    other = minillm(*FIT, "--ckpt_path", run, "--trainer.max_steps", 70, "--name", "other")
    assert "from step 60, writing to lightning_logs/other/version_0" in other[1]


def test_run_without_a_seed_gets_a_random_one_and_can_be_resumed(minillm: Run):
    assert minillm(*FIT, "--seed_everything", "false")[0] == 0
    code, out, _ = minillm(*FIT, *MORE, "--seed_everything", "false")
    assert code == 0
    assert "from step 20" in out


EARLY_STOPPING = (
    *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss"),
    *("--trainer.callbacks.min_delta=9", "--trainer.callbacks.patience=1"),
)


@pytest.mark.parametrize(
    ("flags", "reason", "change"),
    [
        (EARLY_STOPPING, "Monitored metric val_loss did not improve .*", "a larger patience"),
        (("--trainer.max_time", "00:00:00:00"), "the time limit is used up, after 0 seconds", "a larger --trainer.max"),
        (("--trainer.limit_train_batches", 0), "a callback or a limit of 0 batches ended it", "other settings"),
    ],
    ids=["early stopping", "max_time", "no batches"],
)
def test_reason_for_an_early_end_is_printed_with_the_command_to_resume(
    flags: tuple[object, ...], reason: str, change: str, minillm: Run
):
    for _ in range(2):  # the same again when it is resumed
        code, out, err = minillm(*FIT, *MORE, *flags)
        assert (code, err) == (0, "")
        command = re.escape(f"minillm fit --config {CONFIG} --ckpt_path {LAST}")
        pattern = rf"^training ended at step \d+ of 60: {reason}; to continue, resume with {change}.*: {command}$"
        assert re.search(pattern, out, re.MULTILINE), out


def test_complete_run_is_not_said_to_have_ended_early(minillm: Run):
    assert "training ended" not in minillm(*FIT, *MORE)[1]


def test_run_without_a_validation_names_its_last_checkpoint(minillm: Run):
    out = minillm(*FIT, "--version", 3, "--trainer.limit_val_batches", 0)[1]
    path = LAST.parents[2] / "version_3" / "checkpoints" / "last.ckpt"
    assert out.endswith(f"no validation; generate text with: minillm predict --ckpt_path {path}\n")
