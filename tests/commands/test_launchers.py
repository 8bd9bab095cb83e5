"""Runs of several processes that torchrun or SLURM starts, stops, loses and starts again."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.checkpoint.find import find_run_to_continue
from minillm.data.shakespeare import tinyshakespeare
from tests.processes import ForkedCommand, start_ranks, wait_for_text

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
    assert "error: rank 0 lost the connection to another process, which has ended or is unreachable; step " in err
    assert "Traceback" not in err
    assert err.endswith(" --ckpt_path lightning_logs/run/version_0/checkpoints/last.ckpt\n")
    assert second.result().code == -signal.SIGKILL

    command = [*FIT, "--trainer.max_steps", "10000", "--checkpoints.every_n_train_steps", "1000"]
    ranks = start_ranks(2, command, output, TORCHELASTIC_RESTART_COUNT="1")
    ranks[0].wait_for("resuming lightning_logs/run/version_0")
    ranks[0].wait_for("5/10000")
    for rank in ranks:
        rank.send_signal(signal.SIGTERM)
    assert [rank.result().code for rank in ranks] == [143, 143]
    assert "resuming from step" in ranks[0].result().out
    assert [path.name for path in Path("lightning_logs/run").iterdir()] == ["version_0"]


def test_a_process_that_answers_nothing_ends_the_others_after_the_timeout(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    timeout = ["--trainer.strategy", "DDPStrategy", "--trainer.strategy.timeout", "0:00:03"]
    first, second = start_ranks(2, [*FIT, *ENDLESS, *timeout], output)
    first.wait_for("step 10/")
    second.send_signal(signal.SIGSTOP)
    code, _, err = first.result()
    second.send_signal(signal.SIGKILL)
    assert code == 2
    assert "error: rank 0 lost the connection to another process, which has ended or is unreachable; step " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--ckpt_path", "lightning_logs/run/version_0"], "rank 1 has step 2"),
        (["--data.corpus", "other.txt"], "rank 1 has another text"),
    ],
)
def test_machines_that_share_neither_folder_nor_text_are_refused(
    flags: list[str], difference: str, tmp_path: Path, start: Start
):
    assert start(*FIT, "--trainer.max_steps", 2).result().code == 0
    Path("other.txt").write_text(tinyshakespeare().swapcase())
    output = tmp_path / "output"
    output.mkdir()
    first, second = start_ranks(2, [*FIT, "--trainer.max_steps", "5"], output, last=flags)
    assert first.result().code == second.result().code == 2
    assert (
        f"error: {difference}, unlike rank 0: all machines need the run folder, the text and the flags"
        in first.result().err
    )
    assert second.result().err == ""
    assert [path.name for path in Path("lightning_logs/run").iterdir()] == ["version_0"]


def test_a_worker_stops_when_its_torchrun_agent_is_killed(tmp_path: Path):
    command = [*("torchrun", "--nproc_per_node", "1", "--master_port", "0", "-m", "minillm"), *FIT, *ENDLESS]
    with (tmp_path / "log").open("w") as log:
        agent = subprocess.Popen(command, stdout=log, stderr=log)
    wait_for_text(tmp_path / "log", "step 10/")
    agent.kill()
    agent.wait()
    wait_for_text(tmp_path / "log", "minillm: stopped by SIGTERM after step")


def test_ckpt_path_auto_starts_resumes_and_is_done(start: Start):
    flags = [*FIT, "--ckpt_path", "auto", "--trainer.max_steps"]
    first = start(*flags, 2).result()
    assert (first.code, "resuming" in first.out) == (0, False)
    second = start(*flags, 5).result()
    assert (second.code, "resuming from step 2" in second.out) == (0, True)
    third = start(*flags, 5).result()
    assert (third.code, "training is complete" in third.out) == (0, True)
    other = start(*flags, 2, "--name", "other").result()
    assert (other.code, "resuming" in other.out) == (0, False)
    assert sorted(str(path) for path in Path("lightning_logs").glob("*/*")) == [
        "lightning_logs/other/version_0",
        "lightning_logs/run/version_0",
    ]


def test_ckpt_path_auto_looks_in_the_folder_and_the_version_of_the_flags(start: Start):
    flags = [*FIT, "--ckpt_path", "auto", "--trainer.default_root_dir", "out", "--trainer.max_steps"]
    assert start(*flags, 2).result().code == 0
    assert "resuming from step 2" in start(*flags, 4).result().out
    assert "resuming" not in start(*flags, 2, "--version", 3).result().out
    assert "resuming from step 2" in start(*flags, 4, "--version", 3).result().out
    assert sorted(path.name for path in Path("out/lightning_logs/run").iterdir()) == ["version_0", "version_3"]


def test_a_signal_that_comes_twice_at_once_is_one(start: Start):
    command = start(*FIT, *ENDLESS)
    command.wait_for("step 10/")
    for _ in range(2):
        command.send_signal(signal.SIGTERM)
    code, _, err = command.result()
    assert (code, "stopped by SIGTERM after step" in err) == (143, True)


def test_ranks_with_different_settings_are_refused(tmp_path: Path):
    first, second = start_ranks(2, [*FIT, "--trainer.max_steps", "5"], tmp_path, last=["--model.learning_rate", "0.5"])
    assert first.result().code == second.result().code == 2
    assert "error: rank 1 has model.learning_rate 0.5, unlike rank 0" in first.result().err


def test_a_restart_before_the_first_checkpoint_starts_from_step_0(
    start: Start, minillm: Callable[..., tuple[int, str, str]]
):
    assert minillm(*FIT)[0] == 0
    assert find_run_to_continue("run") == Path("lightning_logs/run/version_0")
    assert find_run_to_continue("other") is None
    command = start(*FIT, *ENDLESS, "--checkpoints.every_n_train_steps", 10**6, "--trainer.val_check_interval", 10**6)
    command.wait_for("step 5/")
    command.send_signal(signal.SIGKILL)
    command.result()
    assert find_run_to_continue("run") is None  # the failed run is the newest
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
    requeued.wait_for("resuming lightning_logs/run/version_0")
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
