"""Runs of several processes that torchrun or SLURM starts, stops, loses and starts again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.checkpoint.find import find_run_to_restart
from tests.processes import ForkedCommand, start_ranks

FIT = ["fit", "--config", "smoke", "--trainer.accelerator", "cpu", "--name", "run", "--trainer.limit_val_batches", "2"]
ENDLESS = ["--trainer.max_steps", "100000", "--checkpoints.every_n_train_steps", "5"]
SLURM = {
    **{"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NAME": "train"},
    **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NNODES": "1"},
}
Start = Callable[..., ForkedCommand]


def test_a_killed_process_ends_the_others_with_one_line_and_the_restart_resumes(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    first, second = start_ranks(2, [*FIT, *ENDLESS], output)
    first.wait_for("step 10/")
    second.send_signal(signal.SIGKILL)
    code, _, err = first.result()
    assert code == 2
    assert err.count("\n") == 1
    assert "error: rank 0 lost the connection to another process, which has ended or is unreachable; step " in err
    assert err.endswith(" --ckpt_path lightning_logs/run/version_0/checkpoints/last.ckpt\n")
    assert second.result().code == -signal.SIGKILL

    command = [*FIT, "--trainer.max_steps", "10000", "--checkpoints.every_n_train_steps", "1000"]
    ranks = start_ranks(2, command, output, TORCHELASTIC_RESTART_COUNT="1")
    ranks[0].wait_for("restarted by the launcher: resuming lightning_logs/run/version_0")
    ranks[0].wait_for("5/10000")
    for rank in ranks:
        rank.send_signal(signal.SIGTERM)
    assert ranks[0].result().code == 143
    assert "resuming from step" in ranks[0].result().out
    assert [path.name for path in Path("lightning_logs/run").iterdir()] == ["version_0"]


def test_a_restart_before_the_first_checkpoint_starts_from_step_0(
    start: Start, minillm: Callable[..., tuple[int, str, str]]
):
    assert minillm(*FIT)[0] == 0
    assert find_run_to_restart("run") == Path("lightning_logs/run/version_0")
    assert find_run_to_restart("other") is None
    command = start(*FIT, *ENDLESS, "--checkpoints.every_n_train_steps", 10**6, "--trainer.val_check_interval", 10**6)
    command.wait_for("step 5/")
    command.send_signal(signal.SIGKILL)
    command.result()
    assert find_run_to_restart("run") is None  # the failed run is the newest
    result = start(*FIT, TORCHELASTIC_RESTART_COUNT="1").result()
    assert (result.code, "resuming" in result.out) == (0, False)


def test_a_restart_of_fine_tuning_resumes_it(in_smoke_run: Path, start: Start):
    flags = (*FIT, "--init_from", in_smoke_run / "checkpoints" / "best.ckpt", "--data.corpus", "tinyshakespeare")
    assert start(*flags, "--trainer.max_steps", 3).result().code == 0
    result = start(*flags, "--trainer.max_steps", 5, TORCHELASTIC_RESTART_COUNT="1").result()
    assert (result.code, "resuming from step 3" in result.out) == (0, True)


def test_slurm_preempts_with_sigusr1_and_the_requeued_job_resumes(start: Start):
    command = start(*FIT, *ENDLESS, **SLURM)
    command.wait_for("step 5/")
    command.send_signal(signal.SIGUSR1)
    code, _, err = command.result()
    assert code == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1 after step" in err
    assert not list(Path().glob("**/hpc_ckpt*"))
    requeued = start(*FIT, *ENDLESS, SLURM_RESTART_COUNT="1", **SLURM)
    requeued.wait_for("restarted by the launcher: resuming lightning_logs/run/version_0")
    requeued.wait_for("5/100000")
    requeued.send_signal(signal.SIGTERM)
    assert requeued.result().code == 143


def test_sigusr1_outside_of_slurm_keeps_its_meaning(start: Start):
    command = start(*FIT, *ENDLESS)
    command.wait_for("step 5/")
    command.send_signal(signal.SIGUSR1)
    assert command.result().code == -signal.SIGUSR1


@pytest.mark.parametrize("count", ["", "0"])
def test_a_first_start_is_not_a_restart(
    count: str, minillm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    assert minillm(*FIT)[0] == 0
    monkeypatch.setitem(os.environ, "TORCHELASTIC_RESTART_COUNT", count)
    code, out, _ = minillm(*FIT)
    assert (code, "version_1" in out) == (0, True)


def test_a_signal_while_the_run_folder_is_created_leaves_no_folder(
    minillm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("minillm.commands.fit._print_run_summary", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    code, _, err = minillm(*FIT)
    assert (code, err) == (143, "minillm: stopped by SIGTERM; no checkpoint has been saved yet\n")
    assert list(Path("lightning_logs/run").iterdir()) == []
