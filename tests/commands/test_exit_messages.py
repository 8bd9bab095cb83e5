"""How a training ends that does not end well."""

import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from minillm import load
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"))
LAST = Path("lightning_logs/smoke/version_0/checkpoints/last.ckpt")
CONFIG = LAST.parent.parent / "config.yaml"
MORE = ("--ckpt_path", "last", "--trainer.max_steps", 60)


@pytest.fixture(autouse=True)
def _trained(minillm: Run) -> None:
    """Every test here goes on from a run of 20 steps."""
    assert minillm(*FIT)[0] == 0


def start(*arguments: object, until: str = "step 10/") -> subprocess.Popen[str]:
    """Train in another process, and return when it has printed something."""
    command = [sys.executable, "-m", "minillm", *FIT, "--trainer.max_steps", "1000000", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while until not in process.stdout.readline():
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_with_its_state_saved(signum: signal.Signals, code: int):
    process = start()
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (code, 2)
    assert err.startswith("minillm: stopping after this step (and its validation); once more stops at once\n")
    name, step, path = re.findall(r"stopped by (\w+) after step (\d+); .* --ckpt_path (\S+)$", err)[0]
    assert (name, torch.load(path, weights_only=True)["global_step"]) == (signum.name, int(step))


def test_a_second_ctrl_c_ends_it_at_once():
    process = start("--trainer.callbacks", "tests.training.interrupt.Nap", until="asleep")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)  # busy with its step, as it was asked to finish that
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "minillm: stopped at once; step 10 is kept; go on with: minillm fit --config " in err


def test_a_loss_that_is_no_number_ends_it_and_the_last_good_checkpoint_stays(minillm: Run):
    code, _, err = minillm(*FIT, *MORE, "--model.learning_rate", 1e30)
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(r"not a finite number any more at step 2\d, with learning rate 1e\+30: a lower", err)
    assert f"step 20 is kept; go on with: minillm fit --config {CONFIG} --ckpt_path {LAST}\n" in err
    load(LAST)


def test_weights_that_are_no_numbers_are_never_saved(minillm: Run):
    before = LAST.read_bytes()
    code, _, err = minillm(*FIT, *MORE, "--model.learning_rate", 1e39, "--checkpoints.every_n_train_steps", 1)
    assert code == 2
    assert "is not finite any more after step 21" in err
    assert LAST.read_bytes() == before


def test_a_full_disk_leaves_the_checkpoint_before_whole(minillm: Run):
    before = LAST.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))  # no file can grow beyond this
    try:
        code, _, err = minillm(*FIT, *MORE, "--checkpoints.every_n_train_steps", 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, err) == (
        2,
        f"minillm: error: {LAST}: File too large; step 20 is kept; "
        f"go on with: minillm fit --config {CONFIG} --ckpt_path {LAST}\n",
    )
    assert LAST.read_bytes() == before
    assert {path.name for path in LAST.parent.iterdir()} == {"best.ckpt", "last.ckpt"}
    load(LAST)


def test_a_folder_that_vanishes_is_said_in_a_line(minillm: Run):
    code, _, err = minillm(*FIT, *MORE, "--trainer.callbacks", "tests.training.interrupt.Vanish")
    assert (code, err.count("\n")) == (2, 1)
    assert "version_0" in err
    assert "No such file or directory" in err


def test_a_finished_run_says_so_and_is_left_alone(minillm: Run):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    code, out, err = minillm(*FIT, "--ckpt_path", "last")
    assert (code, err) == (0, "")
    assert "is at step 20: nothing is left to train (--trainer.max_steps or max_epochs gives more)" in out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_going_on_from_an_older_checkpoint_begins_a_run_of_its_own(minillm: Run):
    older = LAST.with_name("older.ckpt")
    older.write_bytes(LAST.read_bytes())
    assert minillm(*FIT, *MORE)[0] == 0
    kept = {path: path.read_bytes() for path in LAST.parent.parent.rglob("*") if path.is_file()}
    code, out, _ = minillm(*FIT, "--ckpt_path", older, "--trainer.max_steps", 30)
    assert code == 0
    assert "from step 20, into lightning_logs/smoke/version_1" in out
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_setting_that_changes_is_said_and_the_old_ones_are_kept(minillm: Run):
    before = CONFIG.read_text()
    code, out, _ = minillm(*FIT, *MORE, "--trainer.gradient_clip_val", 0.5)
    assert code == 0
    assert re.findall(r"^changed from here on: (.*)$", out, re.MULTILINE) == [
        "--trainer.max_steps 20 -> 60",
        "--trainer.gradient_clip_val None -> 0.5",
    ]
    assert CONFIG.with_name("config_until_step_20.yaml").read_text() == before


def test_last_is_the_checkpoint_of_the_most_steps_whatever_the_clock_says(minillm: Run):
    minillm(*FIT, *MORE, "--trainer.limit_val_batches", 0)
    LAST.with_name("best.ckpt").touch()
    code, out, _ = minillm(*FIT, "--ckpt_path", "last", "--trainer.max_steps", 70)
    assert code == 0
    assert "from step 60, into lightning_logs/smoke/version_0" in out


def test_a_finished_run_of_epochs_is_left_alone_too(minillm: Run):
    epochs = (*FIT, "--trainer.max_steps", -1, "--trainer.limit_train_batches", 7, "--trainer.max_epochs")
    assert minillm(*epochs, 2)[0] == 0
    assert "is at step 14: nothing is left to train" in minillm(*epochs, 2, "--ckpt_path", "last")[1]
    assert "step 21/21" in minillm(*epochs, 3, "--ckpt_path", "last")[1]


def test_a_run_of_a_given_version_goes_on_in_it_and_another_name_begins_another(minillm: Run):
    given = (*FIT, "--version", 5)
    assert minillm(*given)[0] == 0
    assert "into lightning_logs/smoke/version_5" in minillm(*given, *MORE)[1]
    other = minillm(*FIT, "--ckpt_path", "last", "--trainer.max_steps", 70, "--name", "other")
    assert "from step 60, into lightning_logs/other/version_0" in other[1]


def test_a_run_without_a_seed_gets_one_that_it_can_be_resumed_with(minillm: Run):
    assert minillm(*FIT, "--seed_everything", "false")[0] == 0
    code, out, _ = minillm(*FIT, *MORE, "--seed_everything", "false")
    assert code == 0
    assert "from step 20" in out
