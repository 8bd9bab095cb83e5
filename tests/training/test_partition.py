"""A run is the same training on any number of processes and accumulated batches, and moves between them."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.validation import read_checkpoint
from tests.conftest import CONFIGS, isolated
from tests.processes import ForkedCommand, Result, start_ranks

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", CONFIGS / "smoke.yaml", "--trainer.precision", "32-true", "--trainer.log_every_n_steps", 1)
SIZE = ("--data.batch_size", 12, "--trainer.limit_val_batches", 12)
NO_DROPOUT = ("--model.dropout", 0, "--trainer.max_steps", 20, "--trainer.val_check_interval", 10)


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Result]]:
    """A function that trains on some processes and accumulated batches, and returns the results of the processes."""
    folder = tmp_path_factory.mktemp("output")

    def run(num_processes: int, num_batches: int, *flags: object) -> list[Result]:
        words = [str(word) for word in (*FIT, *SIZE, "--trainer.accumulate_grad_batches", num_batches, *flags)]
        if num_processes == 1:
            commands = [ForkedCommand([*words, "--trainer.accelerator", "cpu"], folder, {})]
        else:
            commands = start_ranks(num_processes, words, folder)
        results = [command.result() for command in commands]
        assert [result.code for result in results] == [0] * num_processes, [result.err for result in results]
        return results

    return run


def metrics(name: str, version: int = 0) -> dict[str, list[float]]:
    with Path("lightning_logs", name, f"version_{version}", "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {metric: [float(row[metric]) for row in rows if row[metric]] for metric in ("train_loss", "val_loss")}


def weights(name: str) -> dict[str, torch.Tensor]:
    return torch.load(RunFolder(Path("lightning_logs", name, "version_0")).last, weights_only=True)["state_dict"]


@pytest.mark.parametrize("sampling", ["random", "shuffled"])
def test_losses_do_not_depend_on_the_number_of_processes_and_batches(fit: Callable[..., list[Result]], sampling: str):
    flags = (*NO_DROPOUT, "--data.sampling", sampling)
    fit(1, 1, *flags, "--name", "alone")
    expected = metrics("alone")
    assert len(expected["train_loss"]) == 20
    for num_processes, num_batches in ((3, 1), (1, 4)) if sampling == "random" else ((2, 3),):
        name = f"{num_processes}x{num_batches}"
        fit(num_processes, num_batches, *flags, "--name", name)
        assert metrics(name)["train_loss"] == pytest.approx(expected["train_loss"], abs=2e-6)
        assert metrics(name)["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-6)


@pytest.fixture(scope="module")
def alone(fit: Callable[..., list[Result]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """The metrics of an uninterrupted run of one process."""
    with isolated(tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("home")):
        fit(1, 1, *NO_DROPOUT, "--name", "alone")
        return metrics("alone")


MOVES = [((1, 1), (4, 1), 7), ((3, 1), (2, 1), 5), ((1, 3), (1, 2), 5), ((2, 2), (1, 3), 11)]


@pytest.mark.parametrize(("before", "after", "step"), MOVES, ids=str)
def test_a_run_moves_to_other_processes_and_batches(
    fit: Callable[..., list[Result]],
    alone: dict[str, list[float]],
    before: tuple[int, int],
    after: tuple[int, int],
    step: int,
):
    fit(*before, *NO_DROPOUT, "--name", "moved", "--trainer.max_steps", step)
    results = fit(*after, *NO_DROPOUT, "--name", "moved", "--ckpt_path", "last")
    texts = [f"{processes} processes x {batches} accumulated batches" for processes, batches in (after, before)]
    assert f"{texts[0]} instead of {texts[1]}: the same windows, but sums are rounded differently" in results[0].out
    moved = metrics("moved")
    assert moved["train_loss"] == pytest.approx(alone["train_loss"], abs=2e-6)
    assert moved["val_loss"][-1] == pytest.approx(alone["val_loss"][-1], abs=1e-6)
    checkpoint = read_checkpoint(RunFolder(Path("lightning_logs/moved/version_0")).last)
    progress = checkpoint.content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert progress["total"]["processed"] == progress["current"]["processed"] == 20 * after[1]
    assert (checkpoint.num_processes, checkpoint.num_batches) == after


def test_a_run_moves_within_an_epoch_of_shuffled_windows(fit: Callable[..., list[Result]]):
    Path("text.txt").write_text("to be or not to be, that is the question\n" * 50)  # 10 steps per epoch
    flags = ("--data.corpus", "text.txt", "--data.sampling", "shuffled", "--model.dropout", 0)
    flags += ("--trainer.max_steps", -1, "--trainer.val_check_interval", 5, "--trainer.limit_val_batches", 1)
    fit(1, 1, *flags, "--trainer.max_epochs", 3, "--name", "alone")
    fit(1, 3, *flags, "--trainer.max_epochs", 3, "--name", "moved", "--checkpoints.keep_every_n_steps", 13)
    kept = "lightning_logs/moved/version_0/checkpoints/step_13.ckpt"
    fit(2, 2, *flags, "--trainer.max_epochs", 3, "--name", "resumed", "--ckpt_path", kept)
    expected, resumed = metrics("alone"), metrics("resumed")
    assert resumed["train_loss"] == pytest.approx(expected["train_loss"][13:], abs=2e-6)
    for name, weight in weights("alone").items():
        torch.testing.assert_close(weights("resumed")[name], weight, rtol=0, atol=1e-5)


def test_random_states_of_new_ranks_are_derived(fit: Callable[..., list[Result]]):
    fit(1, 1, "--trainer.max_steps", 3, "--name", "grown")
    fit(3, 1, "--trainer.max_steps", 6, "--name", "grown", "--ckpt_path", "last")
    path = RunFolder(Path("lightning_logs/grown/version_0")).last
    states = [state["torch"].numpy().tobytes() for state in torch.load(path, weights_only=True)["random_states"]]
    assert len(set(states)) == 3


@pytest.mark.parametrize(
    ("size", "flags", "message"),
    [
        (
            13,
            ("--trainer.accumulate_grad_batches", 2),
            r"data\.batch_size 13 must be divisible by 2 .*such as 12 or 14",
        ),
        (3, ("--trainer.accumulate_grad_batches", 8), r"must be divisible by 8 = 1 x 8 \(processes x .*such as 8$"),
        (9, ("--trainer.strategy", "ddp", "--trainer.devices", 2), r"divisible by 2 = 2 x 1 \(.* 8 or 10"),
    ],
)
def test_a_batch_size_that_does_not_divide_is_refused(
    size: int, flags: tuple[Any, ...], message: str, refused: Callable[..., str]
):
    cpu = ("--trainer.accelerator", "cpu")
    assert re.search(message, refused("fit", "--config", "smoke", "--data.batch_size", size, *flags, *cpu).strip())


def make_format_2(path: Path, num_processes: int, num_batches: int) -> None:
    """Rewrite a checkpoint as an earlier version would have saved it."""
    content = torch.load(path, weights_only=True)
    content["format"] = 2
    del content["num_processes"], content["num_batches"]
    content["datamodule_hyper_parameters"]["batch_size"] //= num_processes * num_batches
    torch.save(content, path)


@pytest.mark.parametrize(("num_processes", "num_batches"), [(2, 1), (1, 3)])
def test_a_checkpoint_of_an_earlier_format_resumes_with_the_batch_size_of_its_steps(
    fit: Callable[..., list[Result]], minillm: Run, num_processes: int, num_batches: int
):
    fit(num_processes, num_batches, "--trainer.max_steps", 5, "--name", "old")
    path = RunFolder(Path("lightning_logs/old/version_0")).last
    make_format_2(path, num_processes, num_batches)
    code, out, err = minillm("fit", "--ckpt_path", path, "--trainer.max_steps", 6, "--trainer.accelerator", "cpu")
    assert (code, err) == (0, "")
    part_size = 12 // (num_processes * num_batches)
    assert f"data.batch_size {part_size}, of one batch of one process, is now 12, that of a step\n" in out
    saved = read_checkpoint(path)
    assert (saved.data["batch_size"], saved.num_processes, saved.num_batches) == (12, 1, 1)


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "devices", "num_nodes"])
@pytest.mark.parametrize("number", ["", "format: 2\n"])
def test_a_configuration_of_an_earlier_format_with_several_batches_per_step_is_refused(
    name: str, number: str, refused: Callable[..., str]
):
    Path("old.yaml").write_text(f"{number}data:\n  batch_size: 16\ntrainer:\n  {name}: 4\n")
    error = refused("fit", "--config", "old.yaml")
    assert "old.yaml: data.batch_size is now the number of windows of a step" in error
    assert "write format: 3 and data.batch_size: 64 instead of 16" in error
    Path("one.yaml").write_text(f"{number}data:\n  batch_size: 16\ntrainer:\n  {name}: 1\n  max_steps: 0\n")
    assert "max_steps must be at least 1" in refused("fit", "--config", "one.yaml")


def test_evaluation_uses_batches_of_the_size_that_fitted_into_memory(in_smoke_run: Path, minillm: Run):
    path = in_smoke_run / "checkpoints" / "last.ckpt"
    Path("text.txt").write_text("to be or not to be, that is the question\n" * 50)
    flags = ("--ckpt_path", path, "--trainer.accelerator", "cpu", "--data.val_corpus", "text.txt")
    expected = minillm("validate", *flags)[1]
    content = torch.load(path, weights_only=True)
    torch.save({**content, "num_batches": 4}, path)
    values = [
        [float(value) for value in re.findall(r"\d+\.\d+", text)] for text in (expected, minillm("validate", *flags)[1])
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-5)
