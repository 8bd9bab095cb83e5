import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import minillm as package
from minillm.checkpoint.exported import exported_files
from minillm.checkpoint.validation import read_checkpoint
from minillm.commands import export as command
from minillm.export.export import FORMATS
from tests.export.models import save_checkpoint

Run = Callable[..., tuple[int, str, str]]
EXPORT = ("export", "--format", "safetensors", "--output", "exported")
PREDICT = ("predict", "--prompt", "ROMEO:", "--max_new_tokens", 50, "--seed", 1, "--ckpt_path")


@pytest.fixture
def exported(in_smoke_run: Path, minillm: Run) -> Path:
    assert minillm(*EXPORT) == (0, "exported to exported\n", "")
    return Path("exported")


def test_every_command_reads_an_exported_folder_as_its_checkpoint(exported: Path, in_smoke_run: Path, minillm: Run):
    checkpoint = in_smoke_run / "checkpoints" / "best.ckpt"
    assert minillm(*PREDICT, exported)[1] == minillm(*PREDICT, checkpoint)[1]
    short = ("--trainer.limit_val_batches", 3)
    losses = [minillm("validate", "--ckpt_path", path, *short)[1] for path in (exported, checkpoint)]
    assert losses[0] == losses[1]
    assert "val_loss" in losses[0]
    tuned = ("--init_from", exported, "--name", "tuned", "--trainer.max_steps", 2)
    assert minillm("fit", "--config", "smoke", *tuned, *short)[0] == 0


def test_weights_settings_and_tokenizer_are_those_of_the_checkpoint(exported: Path, in_smoke_run: Path):
    saved = read_checkpoint(in_smoke_run / "checkpoints" / "best.ckpt", torch.tensor)
    read = read_checkpoint(exported, torch.tensor)
    assert read.config == saved.config
    assert read.tokenizer.state == saved.tokenizer.state
    assert (read.step, read.seed, read.data, read.text_sha256) == (
        saved.step,
        saved.seed,
        saved.data,
        saved.text_sha256,
    )
    assert read.hyper_parameters == saved.hyper_parameters
    for weights in (read.weights, load_file(exported / "model.safetensors")):
        assert weights.keys() == saved.weights.keys()
        assert all(torch.equal(weights[name], weight) for name, weight in saved.weights.items())


def test_the_folder_has_a_model_card_and_the_rights_of_a_new_folder(exported: Path):
    card = (exported / "README.md").read_text()
    assert "tinyshakespeare" in card
    assert "- Validation loss (the lowest of the run): " in card
    assert 'minillm.load("THIS_FOLDER")' in card
    os.mkdir("another")  # noqa: PTH102
    assert exported.stat().st_mode == Path("another").stat().st_mode


def test_the_model_card_has_no_path_of_the_computer_that_trained(tmp_path: Path, minillm: Run):
    Path("texts").mkdir()
    Path("texts/mine.txt").write_text("to be or not to be\n" * 99)
    corpus = ("--data.corpus", tmp_path / "texts" / "mine.txt")
    assert minillm("fit", "--config", "smoke", "--trainer.max_steps", 1, *corpus)[0] == 0
    package.export("last", "safetensors", "folder")
    card = Path("folder/README.md").read_text()
    assert "- Text: mine.txt, 1 steps" in card
    assert str(tmp_path) not in card


def test_python_exports_too_and_the_function_can_be_called_again(in_smoke_run: Path):
    for number in range(2):
        package.export("best", "safetensors", f"folder_{number}")
    model, _ = package.load("folder_0")
    expected, _ = package.load("best")
    assert torch.equal(model(torch.zeros(1, 2, dtype=torch.long)), expected(torch.zeros(1, 2, dtype=torch.long)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format", "pdf"), "argument --format: invalid choice: 'pdf'"),
        (("--output", "lightning_logs"), "lightning_logs exists: pass a new folder"),
        (("--output", "missing/folder"), "missing/folder: No such file or directory"),
        (("--ckpt_path", "nothing.ckpt"), "no checkpoint at 'nothing.ckpt'"),
        (("--ckpt_path", "text.ckpt"), "text.ckpt is not a valid MiniLLM checkpoint"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    flags: tuple[str, ...], message: str, in_smoke_run: Path, minillm: Run
):
    Path("text.ckpt").write_text("text")
    before = sorted(Path().rglob("*"))
    code, out, err = minillm(*EXPORT, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("minillm: error: ")
    assert message in err
    assert sorted(Path().rglob("*")) == before


def test_the_command_offers_the_formats_of_the_function():
    assert [*command.FORMATS] == [*FORMATS]


def test_a_full_disk_leaves_nothing(in_smoke_run: Path, minillm: Run, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    assert minillm(*EXPORT) == (2, "", "minillm: error: exported: No space left on device\n")
    assert sorted(Path().rglob("*")) == before


def test_a_missing_package_is_named(in_smoke_run: Path, minillm: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    monkeypatch.delitem(__import__("sys").modules, "minillm.export.huggingface", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "minillm.export.huggingface_tokenizer", raising=False)
    code, _, err = minillm("export", "--format", "hf", "--output", "exported")
    assert (code, err) == (2, "minillm: error: format hf needs tokenizers: pip install 'minillm[export]'\n")


def test_a_folder_of_another_program_is_refused(in_smoke_run: Path, tmp_path: Path, minillm: Run):
    save_checkpoint(tmp_path / "model.ckpt")
    assert minillm("export", "--ckpt_path", tmp_path / "model.ckpt", "--format", "hf", "--output", "hf")[0] == 0
    code, _, err = minillm(*PREDICT, "hf")
    assert code == 2
    assert "hf is not a valid MiniLLM checkpoint: it was exported for another program, with model_type 'gpt2'" in err


Files = dict[str, bytes]


def changed_config(files: Files, **values: Any) -> Files:
    return {**files, "config.json": json.dumps({**json.loads(files["config.json"]), **values}).encode()}


DAMAGES: dict[str, Callable[[Files], Files]] = {
    "truncated weights": lambda files: {**files, "model.safetensors": files["model.safetensors"][:-1]},
    "no header": lambda files: {**files, "model.safetensors": b""},
    "no JSON": lambda files: {**files, "config.json": b"{"},
    "a list": lambda files: {**files, "config.json": b"[]"},
    "no settings": lambda files: {**files, "config.json": b'{"model_type": "minillm"}'},
    "later format": lambda files: changed_config(files, format=99),
    "other sizes": lambda files: changed_config(files, hyper_parameters={"vocab_size": 3, "context_length": 4}),
    "not a number": lambda files: changed_config(files, seed=float("nan")),
    "no tokenizer": lambda files: {**files, "tokenizer.json": b"{}"},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_one_line(damage: Callable[[Files], Files], in_smoke_run: Path, minillm: Run):
    files = exported_files(read_checkpoint(in_smoke_run / "checkpoints" / "best.ckpt").content)
    Path("damaged").mkdir()
    for name, content in damage(files).items():
        Path("damaged", name).write_bytes(content)
    code, out, err = minillm(*PREDICT, "damaged")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "damaged" in err


def test_a_nan_weight_is_refused(in_smoke_run: Path, minillm: Run):
    content = read_checkpoint(in_smoke_run / "checkpoints" / "best.ckpt").content
    content["state_dict"]["model.final_norm.weight"][0] = np.nan
    Path("nan").mkdir()
    for name, value in exported_files(content).items():
        Path("nan", name).write_bytes(value)
    code, _, err = minillm(*PREDICT, "nan")
    assert code == 2
    assert "contains NaN or infinite values" in err


def test_a_run_does_not_resume_from_an_exported_folder(exported: Path, minillm: Run):
    code, _, err = minillm("fit", "--config", "smoke", "--trainer.max_steps", 30, "--ckpt_path", exported)
    assert (code, err.count("\n")) == (2, 1)
