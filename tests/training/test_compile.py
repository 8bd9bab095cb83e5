"""Training steps compiled by torch.compile."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.processes import ForkedCommand

Start = Callable[..., ForkedCommand]
FIT = [
    *("fit", "--config", "smoke", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    *("--model.num_layers", "1", "--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "2"),
]


def compile_without_code_generation(model: torch.nn.Module, mode: str) -> None:
    """Do what `Module.compile` does, but with a backend that needs a second instead of half a minute."""
    print("compiled with mode", mode)
    model._compiled_call_impl = torch.compile(model._call_impl, backend="aot_eager")


def test_compiled_training_is_equal_in_loss_and_resumes_exactly(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code_generation)
    step_2 = Path("lightning_logs/compiled/version_0/checkpoints/step_2.ckpt")
    for name, mode, *ckpt_path in (("eager", "none"), ("compiled", "default"), ("resumed", "default", step_2)):
        flags = ["--name", name, "--model.compile", mode, "--trainer.max_steps", 4]
        flags += ["--checkpoints.keep_every_n_steps", 2, *(["--ckpt_path", *ckpt_path] if ckpt_path else [])]
        result = start(*FIT, *flags).result()
        assert (result.code, "compiled with mode default" in result.out) == (0, mode == "default")
    assert train_losses("compiled") == pytest.approx(train_losses("eager"), abs=2e-6)
    eager, compiled, resumed = (last_weights(name) for name in ("eager", "compiled", "resumed"))
    assert compiled.keys() == eager.keys()
    assert all(torch.equal(compiled[name], resumed[name]) for name in compiled)


def test_a_missing_compiler_is_one_line(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("missing-g++",))
    flags = ["--model.compile", "default", "--trainer.max_steps", 2]
    code, _, err = start(*FIT, *flags, TORCHINDUCTOR_CACHE_DIR=str(tmp_path)).result()
    assert code == 2
    assert err.startswith("minillm: error: the model cannot be compiled: InvalidCxxCompiler: ")
    assert err.endswith("; pass --model.compile none\n")


def train_losses(name: str) -> list[float]:
    with Path(f"lightning_logs/{name}/version_0/metrics.csv").open() as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]]


def last_weights(name: str) -> dict[str, torch.Tensor]:
    return torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
