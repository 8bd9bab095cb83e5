"""Training in environments that other programs left: variables of launchers, SLURM jobs, several runs at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import CONFIGS

FIT = [sys.executable, "-m", "minillm", "fit", "--config", str(CONFIGS / "smoke.yaml"), "--trainer.limit_val_batches=2"]
RUN = Path("lightning_logs/smoke/version_0")
ENDLESS = ["--trainer.max_steps", "1000000", "--checkpoints.every_n_train_steps", "5"]


def fit(*flags: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([*FIT, *map(str, flags)], capture_output=True, text=True, timeout=100, env=environment)


@pytest.fixture
def training() -> subprocess.Popen[str]:
    """A process that has started to train, and goes on until it is stopped."""
    process = subprocess.Popen([*FIT, *ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "step 10/" not in process.stdout.readline():
        assert process.poll() is None
    return process


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1"},
        {"LOCAL_RANK": "1"},
        {"SLURM_PROCID": "1"},
        {"JSM_NAMESPACE_RANK": "1"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
    ],
    ids=" ".join,
)
def test_left_over_rank_of_a_launcher_does_not_silence_the_run(variables: dict[str, str]):
    process = fit(**variables)
    assert (process.returncode, process.stderr) == (0, "")
    assert "step 20/20  val_loss" in process.stdout
    names = {path.name.partition(".out")[0] for path in RUN.iterdir()}
    assert names >= {"config.yaml", "environment.json", "metrics.csv", "samples.md", "events", "checkpoints"}


def test_forgotten_checkpoint_of_a_slurm_job_is_not_read(in_smoke_run: Path):
    job = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    job |= {"SLURM_NODEID": "0"}
    for folder in (Path(), Path("lightning_logs")):
        (folder / "hpc_ckpt_1.ckpt").write_bytes((in_smoke_run / "checkpoints" / "last.ckpt").read_bytes())
    process = fit("--trainer.max_steps", 5, "--trainer.log_every_n_steps", 1, **job)
    assert process.returncode == 0, process.stderr
    run = in_smoke_run.with_name("version_1")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    assert "step 1/5" in process.stdout


def test_slurm_settings_that_do_not_fit_are_an_error_in_one_line():
    process = fit(SLURM_NTASKS="4", SLURM_JOB_NAME="job")
    assert (process.returncode, process.stdout, process.stderr.count("\n")) == (2, "", 1)
    assert "--ntasks=4" in process.stderr
    assert not Path("lightning_logs").exists()


def test_run_in_use_cannot_be_resumed_until_its_process_has_ended(training: subprocess.Popen[str]):
    process = fit("--ckpt_path", RUN, *ENDLESS)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        f"minillm: error: {RUN} is in use by process {training.pid}: wait until it has ended, or pass another --name or"
        " --version\n"
    )
    assert "is in use by process" in fit("--version", 0).stderr
    training.send_signal(signal.SIGKILL)
    training.communicate()
    step = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    process = fit("--ckpt_path", RUN, "--trainer.max_steps", step + 5)
    assert process.returncode == 0, process.stderr
    first, second = json.loads((RUN / "environment.json").read_text())["sessions"]
    assert (first["pid"], first["seconds"]) == (training.pid, None)
    assert second["seconds"] > 0


def test_runs_that_start_together_have_folders_of_their_own():
    processes = [
        subprocess.Popen([*FIT, "--seed_everything", str(seed)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for seed in range(3)
    ]
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    runs = sorted(RUN.parent.iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1", "version_2"]
    checkpoints = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    assert sorted(checkpoint["seed"] for checkpoint in checkpoints) == [0, 1, 2]
    assert {checkpoint["global_step"] for checkpoint in checkpoints} == {20}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_training_starts_is_reported_and_leaves_no_run(signum: signal.Signals):
    flags = ["--trainer.callbacks+", "tests.training.interrupt.SlowStart"]
    process = subprocess.Popen([*FIT, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "starting" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        128 + signum,
        f"minillm: stopped by {signum.name}; no checkpoint has been saved yet\n",
    )
    assert not RUN.exists()
