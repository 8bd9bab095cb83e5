"""Checkpoints of a plain `lightning.Trainer` with LanguageModel and TextDataModule work with every command."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import minillm
from minillm.callbacks.training_metrics import TrainingMetrics
from minillm.checkpoint.validation import read_checkpoint
from minillm.data.datamodule import TextDataModule
from minillm.training.module import LanguageModel
from tests.conftest import ROOT

Run = Callable[..., tuple[int, str, str]]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:.*logging interval"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended"),
]


def build(corpus: str = "tinyshakespeare") -> tuple[LanguageModel, TextDataModule]:
    torch.manual_seed(2**40 + 7)  # not a seed that seed_everything allows
    data = TextDataModule(corpus, context_length=16, batch_size=8)
    model = LanguageModel(vocab_size=data.vocab_size, context_length=16, embed_dim=16, num_layers=1, num_heads=2)
    return model, data


def trainer(steps: int, **settings: Any) -> Trainer:
    return Trainer(
        **settings,
        max_steps=steps,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        limit_val_batches=3,
        num_sanity_val_steps=0,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after 10 steps."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model, data = build()
        trained = trainer(10)
        trained.fit(model, data)
        trained.save_checkpoint(folder / "plain.ckpt")
    return folder / "plain.ckpt"


def test_checkpoint_loads_with_its_model_and_tokenizer(plain: Path):
    model, tokenizer = minillm.load(plain)
    assert len("".join(minillm.generate(model, tokenizer, "ROMEO:", max_new_tokens=5, seed=1))) == 5
    loaded = LanguageModel.load_from_checkpoint(plain)
    for one, other in zip(loaded.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert read_checkpoint(plain).step == 10


@pytest.mark.parametrize("command", ["predict", "validate", "test"])
def test_commands_accept_the_checkpoint(command: str, plain: Path, minillm: Run):
    flags = {
        "predict": ("--prompt", "A", "--max_new_tokens", 5),
        "validate": ("--trainer.limit_val_batches", 2),
        "test": ("--trainer.limit_test_batches", 2),
    }[command]
    assert minillm(command, "--ckpt_path", plain, *flags)[0] == 0


def test_fit_resumes_from_the_checkpoint_and_fine_tunes_it(plain: Path, minillm: Run):
    fit = ("fit", "--trainer.max_steps", 12, "--trainer.limit_val_batches", 2)
    code, out, err = minillm(*fit, "--ckpt_path", plain)
    assert (code, err) == (0, "")
    assert "resuming from step 10, writing to lightning_logs/minillm/version_0" in out
    code, _, err = minillm(*fit, "--init_from", plain, "--name", "tuned", "--data.corpus", "tinyshakespeare")
    assert (code, err) == (0, "")


def test_plain_trainer_resumes_from_its_own_checkpoint_and_from_one_of_the_command_line(
    plain: Path, in_smoke_run: Path
):
    for path, step in ((plain, 10), (in_smoke_run / "checkpoints" / "last.ckpt", 20)):
        model, data = build()
        resumed = trainer(step + 2)
        resumed.fit(model, data, ckpt_path=path, weights_only=True)
        assert resumed.global_step == step + 2


def test_resumed_windows_are_those_of_the_plain_run(plain: Path):
    _, data = build()
    data.trainer = trainer(10)  # pyright: ignore[reportAttributeAccessIssue]
    expected = next(iter(data.train_dataloader()))
    torch.manual_seed(read_checkpoint(plain).seed)
    assert torch.equal(next(iter(data.train_dataloader())), expected)


def test_validate_and_test_return_the_metrics(plain: Path):
    Path("text.txt").write_text("to be or not to be, that is the question\n" * 99)
    for logger in (True, False):
        model, data = build("text.txt")
        plain_trainer = Trainer(logger=logger, accelerator="cpu", enable_progress_bar=False)
        names = ("loss", "perplexity", "bits_per_char", "loss_sliding")
        for split, evaluate in (("val", plain_trainer.validate), ("test", plain_trainer.test)):
            (result,) = evaluate(model, data, verbose=False)
            assert result.keys() == {f"{split}_{name}" for name in names}
            assert 2 < result[f"{split}_loss"] < 5


def test_language_model_without_its_datamodule_is_refused_with_the_reason():
    model, data = build()
    data.trainer = trainer(2)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match=r"^LanguageModel needs datamodule=TextDataModule"):
        trainer(2).validate(model, data.val_dataloader(), verbose=False)


class RecordLosses(Callback):
    """Record the loss of every batch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].item() * trainer.accumulate_grad_batches)


@pytest.mark.parametrize("num_batches", [1, 3])
def test_train_loss_is_the_mean_over_the_accumulated_batches_of_a_step(num_batches: int):
    model, data = build()
    data.batch_size = 12
    record = RecordLosses()
    callbacks = [TrainingMetrics(), record]
    trained = trainer(4, callbacks=callbacks, accumulate_grad_batches=num_batches, log_every_n_steps=2)
    trained.fit(model, data)
    assert len(record.losses) == 4 * num_batches
    mean = sum(record.losses[-num_batches:]) / num_batches
    assert trained.callback_metrics["train_loss"].item() == pytest.approx(mean, rel=1e-6)


def test_generate_accepts_the_lightning_module_and_a_single_stop_string(plain: Path):
    model, tokenizer = minillm.load(plain)
    module = LanguageModel.load_from_checkpoint(plain)
    expected = "".join(minillm.generate(model, tokenizer, "A", max_new_tokens=200, seed=1))
    assert "".join(minillm.generate(module, tokenizer, "A", max_new_tokens=200, seed=1)) == expected
    stop = expected[50:53]
    found = "".join(minillm.generate(model, tokenizer, "A", max_new_tokens=200, seed=1, stop=stop))
    assert found == expected[: expected.index(stop)]


def test_example_trains_and_generates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    script = shutil.copy(ROOT / "examples" / "plain_trainer.py", "plain_trainer.py")
    monkeypatch.setattr(sys, "argv", [str(script), "3"])
    monkeypatch.setenv("PL_TRAINER_LIMIT_VAL_BATCHES", "3")
    runpy.run_path(str(script), run_name="__main__")
    assert "val_loss" in capsys.readouterr().out
    assert read_checkpoint(Path("plain.ckpt")).step == 3
