import csv
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from minillm import load
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
SMOKE = str(CONFIGS / "smoke.yaml")


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def test_run_folder_contains_the_documented_files(in_smoke_run: Path):
    names = {file.relative_to(in_smoke_run).as_posix() for file in in_smoke_run.rglob("*") if file.is_file()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        *("config.yaml", "environment.json", "hparams.yaml", "metrics.csv", "samples.md", ".lock"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }


def test_metrics_csv_has_the_documented_columns_and_steps(in_smoke_run: Path):
    rows = metrics(in_smoke_run)
    assert {"step", "train_loss", "val_loss", "val_perplexity", "val_bits_per_char", "lr", "chars_per_second"} <= rows[
        0
    ].keys()
    assert [row["step"] for row in rows if row["train_loss"]] == ["5", "10", "15", "20"]
    assert [row["step"] for row in rows if row["val_loss"]] == ["10", "20"]
    assert [float(row["lr"]) for row in rows if row["lr"]] == pytest.approx([3e-4] * 4)
    losses = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert losses[1] < losses[0] < 4.2


def test_samples_md_has_a_section_per_validation(in_smoke_run: Path):
    text = (in_smoke_run / "samples.md").read_text(encoding="utf-8")
    steps = re.findall(r"^## Step (\d+), val_loss \d\.\d{4}$", text, re.MULTILINE)
    assert steps == ["10", "20"]
    assert len(re.findall(r"^    ", text, re.MULTILINE)) >= 2


def test_checkpoints_contain_plain_values_of_the_last_step(in_smoke_run: Path):
    rows = [row for row in metrics(in_smoke_run) if row["val_loss"]]
    best = torch.load(in_smoke_run / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(in_smoke_run / "checkpoints" / "last.ckpt", weights_only=True)
    assert best["global_step"] == last["global_step"] == 20
    assert best["callbacks"]["Checkpoints"]["best_val_loss"] == min(float(row["val_loss"]) for row in rows)


def test_validate_reproduces_the_val_loss_of_the_training_run(in_smoke_run: Path, minillm: Run):
    code, out, _ = minillm("validate", "--ckpt_path", "last", "--trainer.limit_val_batches", 20, "--data.batch_size", 8)
    printed = float(re.findall(r"val_loss\s*│\s*([\d.]+)", out)[0])
    assert code == 0
    assert printed == pytest.approx(float(metrics(in_smoke_run)[-1]["val_loss"]), rel=1e-6)


def test_val_loss_is_the_mean_over_the_whole_validation_text(in_smoke_run: Path, minillm: Run):
    out = minillm("validate", "--trainer.precision", "32-true")[1]
    printed = float(re.findall(r"val_loss\s*│\s*([\d.]+)", out)[0])
    model, tokenizer = load("best")
    text = (Path(os.environ["MINILLM_CACHE"]) / "tinyshakespeare.txt").read_text()
    ids = torch.tensor(tokenizer.encode(text[int(0.9 * len(text)) :]))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 16):
            log_probs = model(ids[None, start : start + 16][:, : len(ids) - 1 - start])[0].log_softmax(dim=-1)
            targets = ids[start + 1 : start + 17]
            total -= log_probs.gather(1, targets[:, None]).sum().item()
    assert printed == pytest.approx(total / (len(ids) - 1), rel=1e-5)


def test_evaluation_writes_no_files(in_smoke_run: Path, minillm: Run):
    before = sorted(Path().rglob("*"))
    assert minillm("test", "--trainer.limit_test_batches", 2)[0] == 0
    assert sorted(Path().rglob("*")) == before


def test_config_of_a_run_reproduces_the_run(in_smoke_run: Path, minillm: Run):
    code, out, _ = minillm("fit", "--config", in_smoke_run / "config.yaml")
    again = in_smoke_run.with_name(re.findall(r"smoke/(version_\d+)", out)[0])
    assert code == 0
    first, second = (weights(run / "checkpoints" / "last.ckpt") for run in (in_smoke_run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (again / "samples.md").read_text() == (in_smoke_run / "samples.md").read_text()
    settings = [yaml.safe_load((run / "config.yaml").read_text()) for run in (in_smoke_run, again)]
    assert settings[0] == settings[1]


def test_resumed_run_takes_its_model_and_data_flags_from_the_checkpoint(minillm: Run):
    assert minillm("fit", "--config", SMOKE, "--seed_everything", 7, "--model.learning_rate", 0.01)[0] == 0
    config = Path("lightning_logs/smoke/version_0/config.yaml")
    first = yaml.safe_load(config.read_text())
    short = ("--trainer.max_steps", 25, "--trainer.limit_val_batches", 2)
    assert minillm("fit", "--ckpt_path", "last", *short)[0] == 0
    second = yaml.safe_load(config.read_text())
    assert second["seed_everything"] == 7
    assert second["model"] == first["model"]
    assert second["data"] == first["data"]


def test_gradients_can_be_clipped_and_accumulated(tmp_path: Path, minillm: Run):
    more = ("--trainer.gradient_clip_val", 1.0, "--trainer.accumulate_grad_batches", 4)
    code, out, _ = minillm("fit", "--config", SMOKE, *more)
    assert code == 0
    rows = [row for row in metrics(tmp_path / "lightning_logs" / "smoke" / "version_0") if row["train_loss"]]
    assert [row["step"] for row in rows] == ["5", "10", "15", "20"]
    assert float(rows[0]["train_loss"]) == pytest.approx(4.17, abs=0.1)  # ln 65 is 4.17
    assert re.findall(r"step (\d+)/20  train_loss", out) == ["5", "10", "15", "20"]


def test_epochs_have_equal_numbers_of_steps_with_gradient_accumulation(minillm: Run):
    Path("text.txt").write_text("to be or not to be " * 160)
    epochs = ("--trainer.max_steps", -1, "--trainer.max_epochs", 2, "--trainer.accumulate_grad_batches", 2)
    each = ("--trainer.val_check_interval", "null", "--trainer.check_val_every_n_epoch", 1)
    code, out, _ = minillm("fit", "--config", SMOKE, "--data.corpus", "text.txt", *epochs, *each)
    assert code == 0
    assert re.findall(r"step (\d+)/44  val_loss", out) == ["22", "44"]


def test_learning_rate_flag_takes_effect_in_a_resumed_run(minillm: Run):
    fit = ("fit", "--config", SMOKE)
    assert minillm(*fit)[0] == 0
    assert minillm(*fit, "--ckpt_path", "last", "--trainer.max_steps", 25, "--model.learning_rate", 0.5)[0] == 0
    rates = [float(row["lr"]) for row in metrics(Path("lightning_logs/smoke/version_0")) if row["lr"]]
    assert rates == pytest.approx([3e-4] * 4 + [0.5])


def test_run_ending_between_intervals_is_validated_and_saved_at_its_last_step(tmp_path: Path, minillm: Run):
    assert minillm("fit", "--config", SMOKE, "--trainer.max_steps", 3)[0] == 0
    run = tmp_path / "lightning_logs" / "smoke" / "version_0"
    assert [row["step"] for row in metrics(run)] == ["3"]
    for name in ("best", "last"):
        assert torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"] == 3


def test_text_with_accents_and_emoji_works_from_fit_to_predict(minillm: Run):
    Path("text.txt").write_text("Über naïve Café-Gäste 🙂 — sí.\n" * 50, encoding="utf-8")
    fit = (
        "fit",
        "--config",
        SMOKE,
        "--data.corpus",
        "text.txt",
        "--model.learning_rate",
        0.01,
        "--trainer.max_steps",
        150,
    )
    assert minillm(*fit)[0] == 0
    code, out, _ = minillm("predict", "--prompt", "Über", "--max_new_tokens", 60, "--temperature", 0)
    assert (code, len(out)) == (0, 60)
    assert "naïve" in out
    assert (
        minillm("validate", "--trainer.limit_val_batches", 2)[0] == 0
    )  # the checkpoint contains the name of the corpus


def test_progress_is_a_bar_in_a_terminal_and_lines_in_a_pipe(tmp_path: Path, minillm: Run):
    fit = [sys.executable, "-m", "minillm", "fit", "--config", SMOKE, "--trainer.max_steps", "10"]
    code, out, err = minillm(*fit[3:])
    assert re.search(r"^step 10/10  train_loss [\d.]+  chars_per_second [\d,.]+  time_left 0:00:00$", out, re.MULTILINE)
    assert re.search(
        r"^step 10/10  val_loss [\d.]+  val_perplexity [\d.]+  val_bits_per_char [\d.]+$", out, re.MULTILINE
    )
    assert (code, err, "\x1b" in out) == (0, "", False)
    terminal, inside = pty.openpty()
    process = subprocess.Popen(fit, cwd=tmp_path, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    with suppress(OSError):  # EIO on Linux when the other side has closed
        while chunk := os.read(terminal, 2**16):
            shown += chunk
    assert process.wait(100) == 0
    assert b"\x1b[" in shown
    assert b"10/10" in shown
    assert b"step 10/10" not in shown


def test_sanity_check_before_training_does_not_change_the_run(minillm: Run):
    for more in ((), ("--trainer.num_sanity_val_steps", 2)):
        assert minillm("fit", "--config", SMOKE, *more)[0] == 0
    first, second = (Path("lightning_logs/smoke", name) for name in ("version_0", "version_1"))
    assert (first / "samples.md").read_text() == (second / "samples.md").read_text()
    steps = [[row["step"] for row in metrics(run)] for run in (first, second)]
    assert steps[0] == steps[1]
