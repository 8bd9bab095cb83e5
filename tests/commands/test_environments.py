"""Training in environments that other programs left: variables of launchers, SLURM jobs, several runs at once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minillm.checkpoint.run_folder import RunFolder
from minillm.commands import fit
from tests.conftest import CONFIGS
from tests.processes import ForkedCommand

FIT = ("fit", "--config", CONFIGS / "smoke.yaml", "--trainer.limit_val_batches", 2)
RUN = Path("lightning_logs/smoke/version_0")
ENDLESS = ("--trainer.max_steps", 1000000, "--checkpoints.every_n_train_steps", 5)
Start = Callable[..., ForkedCommand]


@pytest.fixture
def training(start: Start) -> ForkedCommand:
    """A process that has started to train, and goes on until it is stopped."""
    process = start(*FIT, *ENDLESS)
    process.wait_for("step 10/")
    return process


def test_left_over_rank_of_a_launcher_does_not_silence_the_run():
    """Lightning reads the variables when it is imported, therefore this needs a new process."""
    variables = {"RANK": "1", "LOCAL_RANK": "1", "SLURM_PROCID": "1", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    command = [sys.executable, "-m", "minillm", *map(str, FIT)]
    environment = {**os.environ, **variables}
    process = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert (process.returncode, process.stderr) == (0, "")
    assert "step 20/20  val_loss" in process.stdout
    names = {path.name.partition(".out")[0] for path in RUN.iterdir()}
    assert names >= {"config.yaml", "environment.json", "metrics.csv", "samples.md", "events", "checkpoints"}


def test_forgotten_checkpoint_of_a_slurm_job_is_not_read(in_smoke_run: Path, start: Start):
    job = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    job |= {"SLURM_NODEID": "0"}
    for folder in (Path(), Path("lightning_logs")):
        (folder / "hpc_ckpt_1.ckpt").write_bytes((in_smoke_run / "checkpoints" / "last.ckpt").read_bytes())
    code, out, err = start(*FIT, "--trainer.max_steps", 5, "--trainer.log_every_n_steps", 1, **job).result()
    assert code == 0, err
    run = in_smoke_run.with_name("version_1")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    assert "step 1/5" in out


def test_slurm_settings_that_do_not_fit_are_an_error_in_one_line(start: Start):
    code, out, err = start(*FIT, SLURM_NTASKS="4", SLURM_JOB_NAME="job").result()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--ntasks=4" in err
    assert not Path("lightning_logs").exists()


def test_run_in_use_cannot_be_resumed_until_its_process_has_ended(training: ForkedCommand, start: Start):
    assert start(*FIT, *ENDLESS, "--ckpt_path", RUN).result() == (
        2,
        "",
        f"minillm: error: {RUN} is in use by process {training.pid}: wait until it has ended, or pass another --name or"
        " --version\n",
    )
    assert "is in use by process" in start(*FIT, "--version", 0).result().err
    training.send_signal(signal.SIGKILL)
    assert training.result().code == -signal.SIGKILL
    step = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    code, _, err = start(*FIT, "--ckpt_path", RUN, "--trainer.max_steps", step + 5).result()
    assert code == 0, err
    first, second = json.loads((RUN / "environment.json").read_text())["sessions"]
    assert (first["pid"], first["seconds"]) == (training.pid, None)
    assert second["seconds"] > 0


def test_run_that_another_process_has_continued_meanwhile_is_not_resumed_from_an_older_step(
    in_smoke_run: Path, minillm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    lock = fit.lock_run

    def continue_then_lock(run: RunFolder) -> Any:
        checkpoint = run.last.read_bytes()
        run.last.unlink()
        run.last.write_bytes(checkpoint)
        return lock(run)

    monkeypatch.setattr(fit, "lock_run", continue_then_lock)
    code, _, err = minillm(*FIT, "--ckpt_path", "last", "--trainer.max_steps", 30)
    message = f"another process has continued {RUN} since its checkpoint was read: start again"
    assert (code, err) == (2, f"minillm: error: {message}\n")


def test_runs_that_start_together_have_folders_of_their_own(start: Start):
    processes = [start(*FIT, "--seed_everything", seed) for seed in range(4)]
    assert [process.result().code for process in processes] == [0] * 4
    runs = sorted(RUN.parent.iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1", "version_2", "version_3"]
    checkpoints = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    assert sorted(checkpoint["seed"] for checkpoint in checkpoints) == [0, 1, 2, 3]
    assert {checkpoint["global_step"] for checkpoint in checkpoints} == {20}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_training_starts_is_reported_and_leaves_no_run(signum: signal.Signals, start: Start):
    process = start(*FIT, "--trainer.callbacks+", "tests.training.interrupt.SlowStart")
    process.wait_for("starting")
    process.send_signal(signum)
    code, _, err = process.result()
    assert (code, err) == (
        128 + signum,
        f"minillm: stopped by {signum.name}; no checkpoint has been saved yet\n",
    )
    assert not RUN.exists()
