"""Exact resume: a stopped and resumed run equals an uninterrupted one, bit for bit."""

import csv
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from minillm.callbacks import random_states
from tests.conftest import CONFIGS, isolated
from tests.processes import ForkedCommand, Result, start_ranks

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., ForkedCommand]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"), "--trainer.val_check_interval", "5")
INTERRUPT = ("--trainer.callbacks+", "tests.training.interrupt.Interrupt", "--trainer.callbacks.step")

RECIPE = [
    *("--model.optimizer=muon", "--model.schedule=linear", "--model.warmup_steps=4", "--model.position=rotary"),
    *("--model.norm=rms", "--model.query_key_norm=true", "--model.activation=swiglu", "--model.token_shift=true"),
    *("--model.zero_init=true", "--data.sampling=shuffled", "--model.case_sharing=true"),
    *("--model.multi_token_weight=0.3", "--model.average_last_steps=8"),
]
EMA = ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"]


@pytest.fixture
def minillm(minillm: Run) -> Run:
    """The command line; a resume waits for the next second, because TensorBoard orders its files by the second."""

    def run(*args: object) -> tuple[int, str, str]:
        if "--ckpt_path" in args:
            time.sleep(1 - time.time() % 1)
        return minillm(*args)

    return run


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """List the places where two nested values are not equal bit for bit."""
    if type(one) is not type(other):
        return [f"{where}: {type(one)} and {type(other)}"]
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return [] if same and one.numpy().tobytes() == other.numpy().tobytes() else [where]
    if isinstance(one, dict):
        names = one.keys() | other.keys()
        return [d for name in names for d in differences(one.get(name), other.get(name), f"{where}/{name}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for index, (first, second) in pairs for d in differences(first, second, f"{where}/{index}")]
    return [] if one == other else [f"{where}: {one!r} and {other!r}"]


def version(number: int) -> Path:
    return Path("lightning_logs", "smoke", f"version_{number}")


def checkpoints(run: Path) -> dict[str, Any]:
    return {name: torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")}


def table(run: Path) -> list[dict[str, str]]:
    """Read metrics.csv without the throughput, which differs between runs."""
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the scalars that TensorBoard shows, without the throughput."""
    events = EventAccumulator(str(run)).Reload()
    tags: Any = events.Tags()
    names = set(tags["scalars"]) - {"chars_per_second"}
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def assert_same(one: Path, other: Path) -> None:
    assert differences(checkpoints(one), checkpoints(other)) == []
    assert table(one) == table(other)
    assert curves(one) == curves(other)
    assert (one / "samples.md").read_bytes() == (other / "samples.md").read_bytes()


@pytest.mark.parametrize(
    ("stops", "more"),
    [
        pytest.param([8], [], id="before a validation"),
        pytest.param([3, 11], [], id="twice, once after a validation"),
        pytest.param([5, 10, 15], [], id="at every validation"),
        pytest.param([7], ["--data.num_workers", 2], id="with loader workers"),
        pytest.param([7], ["--trainer.accumulate_grad_batches", 2], id="with accumulated gradients"),
        pytest.param([3, 15], RECIPE, id="with Muon, a schedule, shuffled windows and all model options"),
        pytest.param([7], EMA, id="with averaged weights"),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(stops: list[int], more: list[object], minillm: Run):
    assert minillm(*FIT, *more)[0] == 0
    resumed: tuple[object, ...] = ()
    for step in stops:
        code, _, err = minillm(*FIT, *more, *resumed, *INTERRUPT, step)
        assert (code, err.splitlines()[-1]) == (
            143,
            f"minillm: stopped by SIGTERM after step {step}; step {step} is saved; resume with: "
            f"minillm fit --config {version(1)}/config.yaml --ckpt_path {version(1)}/checkpoints/last.ckpt",
        )
        resumed = ("--ckpt_path", "last")
    assert minillm(*FIT, *more, *resumed)[0] == 0
    assert_same(version(0), version(1))
    assert not version(2).exists()


@settings(max_examples=2, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_batches=st.integers(1, 5),
    interval=st.integers(1, 12),
    save_interval=st.integers(1, 4),
    batch=st.integers(1, 30),
    signum=st.sampled_from([signal.SIGTERM, signal.SIGKILL]),
)
@example(num_batches=3, interval=2, save_interval=4, batch=8, signum=signal.SIGKILL)  # best.ckpt has the most steps
def test_a_run_resumes_exactly_at_any_interval_and_accumulation(
    num_batches: int, interval: int, save_interval: int, batch: int, signum: int, tmp_path: Path, start: Start
):
    """A signal arrives after any batch, also between the accumulated batches of a step; intervals count steps."""
    steps = 6
    flags = [
        *("--trainer.max_steps", steps, "--trainer.accumulate_grad_batches", num_batches),
        *("--data.batch_size", 2 * num_batches),
        *("--trainer.val_check_interval", interval, "--checkpoints.every_n_train_steps", save_interval),
        *("--model.average_last_steps", 3, "--model.multi_token_weight", 0.3, "--model.case_sharing", "true"),
        *("--trainer.limit_val_batches", 2, "--samples.max_new_tokens", 5, "--trainer.log_every_n_steps", 1),
    ]
    signal_flags = ["--trainer.callbacks+", "tests.training.interrupt.InterruptBatch"]
    signal_flags += ["--trainer.callbacks.batch", min(batch, steps * num_batches), "--trainer.callbacks.signum", signum]

    def fit(*arguments: object) -> int:
        return start(*FIT, *arguments).result().code

    with isolated(Path(tempfile.mkdtemp(dir=tmp_path)), tmp_path):
        fit(*flags)
        assert fit(*flags, *signal_flags) in (0, 143, -signal.SIGKILL)
        if any(version(1).glob("checkpoints/*.ckpt")):
            fit(*flags, "--ckpt_path", version(1))
        else:
            shutil.rmtree(version(1), ignore_errors=True)
            fit(*flags, "--version", 1)
        assert differences(checkpoints(version(0)), checkpoints(version(1))) == []
        assert table(version(0)) == table(version(1))
        assert (version(0) / "samples.md").read_bytes() == (version(1) / "samples.md").read_bytes()
        validated = [int(row["step"]) for row in table(version(1)) if row.get("val_loss")]
        assert validated == sorted({*range(interval, steps + 1, interval), steps})


def test_a_run_stopped_during_validation_finishes_the_validation_first(minillm: Run):
    assert minillm(*FIT)[0] == 0
    assert minillm(*FIT, *INTERRUPT, 10, "--trainer.callbacks.during_validation", "true")[0] == 143
    assert [row["step"] for row in table(version(1)) if row["val_loss"]] == ["5", "10"]
    assert minillm(*FIT, "--ckpt_path", "last")[0] == 0
    assert_same(version(0), version(1))


def test_a_run_stopped_at_the_end_of_an_epoch_resumes_with_the_next_epoch(minillm: Run):
    Path("text.txt").write_text("to be or not to be " * 160)  # 22 batches per epoch
    epochs = ("--data.corpus", "text.txt", "--trainer.max_steps", -1, "--trainer.max_epochs", 2)
    assert minillm(*FIT, *epochs)[0] == 0
    assert minillm(*FIT, *epochs, *INTERRUPT, 22)[0] == 143
    assert minillm(*FIT, *epochs, "--ckpt_path", "last")[0] == 0
    assert_same(version(0), version(1))


def test_two_processes_stop_together_and_resume_exactly(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()

    def fit(*arguments: object) -> list[Result]:
        return [rank.result() for rank in start_ranks(2, [*FIT, *map(str, arguments)], output)]

    uninterrupted, stopped, resumed = fit(), fit(*INTERRUPT, 7), fit("--ckpt_path", "last")
    assert [[rank.code for rank in ranks] for ranks in (uninterrupted, stopped, resumed)] == [
        [0, 0],
        [143, 143],
        [0, 0],
    ]
    for ranks in (uninterrupted, stopped, resumed):
        assert ["parameters" in rank.out for rank in ranks] == [True, False]
    # one process received the signal
    assert ["stopped by SIGTERM after step 7" in rank.err for rank in stopped] == [True, False]
    assert_same(version(0), version(1))
    first, second = checkpoints(version(0))["last"]["random_states"]
    assert not torch.equal(first["torch"], second["torch"])


def test_without_the_saved_random_states_a_resumed_run_differs(minillm: Run, monkeypatch: pytest.MonkeyPatch):
    assert minillm(*FIT)[0] == 0
    assert minillm(*FIT, *INTERRUPT, 8)[0] == 143
    monkeypatch.setattr(random_states, "restore_states", lambda state, device: None)
    assert minillm(*FIT, "--ckpt_path", "last")[0] == 0
    found = differences(checkpoints(version(0))["last"], checkpoints(version(1))["last"])
    assert any(path.startswith("/state_dict/") for path in found)
