import csv
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import minillm as package
from minillm.checkpoint.run_folder import RUNS_FOLDER
from minillm.checkpoint.validation import Checkpoint
from minillm.commands import trainer_cli
from minillm.config import ModelConfig
from minillm.model import Decoder
from minillm.training.fine_tuning import initialize_from
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
TEXT = "été: où est le garçon?\n" * 200


@pytest.fixture
def finetune(in_smoke_run: Path, tmp_path: Path) -> list[object]:
    """The arguments of a command that fine-tunes the smoke run's model for a few steps in another folder."""
    (tmp_path / "mine.txt").write_text(TEXT, encoding="utf-8")
    flags = ["--data.corpus", tmp_path / "mine.txt", "--trainer.default_root_dir", tmp_path, "--trainer.max_steps", 6]
    return ["fit", "--config", CONFIGS / "finetune.yaml", "--init_from", in_smoke_run, *flags]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_old_weights_are_kept_and_new_characters_get_new_embedding_and_head_rows(
    finetune: list[object], minillm: Run, tmp_path: Path
):
    code, out, err = minillm(*finetune, "--model.learning_rate", 0, "--model.weight_decay", 0)
    assert code == 0, err
    assert "with 3 new characters: 'ç' 'é' 'ù'" in out
    old, new = (
        weights(Path("lightning_logs/smoke/version_0")),
        weights(tmp_path / RUNS_FOLDER / "finetune" / "version_0"),
    )
    assert old.keys() == new.keys()
    for name, weight in old.items():
        assert torch.equal(new[name][: len(weight)], weight), name
    assert len(new["model.token_embedding.weight"]) == len(new["model.output_head.weight"]) == 65 + 3
    model, tokenizer = package.load(tmp_path / RUNS_FOLDER / "finetune" / "version_0")
    assert tokenizer.decode(tokenizer.encode("garçon")) == "garçon"
    assert model.config.context_length == 16


def test_losses_on_new_and_old_text_are_reported_before_and_after(finetune: list[object], minillm: Run, tmp_path: Path):
    _, out, _ = minillm(*finetune, "--trainer.val_check_interval", 3)
    (new,) = re.findall(r"val_loss on the new text: (\S+) before, (\S+) after", out)
    (old,) = re.findall(r"val_loss on the old text: (\S+) before, (\S+) after", out)
    assert float(new[1]) < float(new[0])
    with (tmp_path / RUNS_FOLDER / "finetune" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(new[1]) == pytest.approx(float([row["val_loss"] for row in rows if row["val_loss"]][-1]), abs=1e-4)
    assert [row["val_loss_old_text"][:5] for row in rows if row["val_loss_old_text"]] == [old[0][:5], old[1][:5]]


def test_fine_tuning_works_without_the_old_text(finetune: list[object], minillm: Run, tmp_path: Path):
    minillm(*finetune)
    (tmp_path / "mine.txt").rename(tmp_path / "newer.txt")
    again = [
        *finetune,
        "--init_from",
        tmp_path / RUNS_FOLDER / "finetune" / "version_0",
        "--data.corpus",
        tmp_path / "newer.txt",
    ]
    code, out, _ = minillm(*again)
    assert code == 0
    assert "with 0 new characters" in out
    assert "the old text is not available or has changed: forgetting was not measured" in out


def test_frozen_blocks_do_not_change_even_after_a_resume(finetune: list[object], minillm: Run, tmp_path: Path):
    for optimizer in ("adamw", "muon"):
        flags = ("--model.frozen_blocks", 1, "--model.optimizer", optimizer, "--name", optimizer)
        assert minillm(*finetune, *flags)[0] == 0
        run = tmp_path / RUNS_FOLDER / optimizer / "version_0"
        code, _, err = minillm("fit", "--ckpt_path", run, "--trainer.max_steps", 8)
        assert code == 0, err
        old, new = weights(Path("lightning_logs/smoke/version_0")), weights(run)
        for name, weight in old.items():
            same = torch.equal(new[name][: len(weight)], weight)
            assert same == name.startswith("model.blocks"), name


def test_a_resumed_run_keeps_init_from_in_its_configuration(finetune: list[object], minillm: Run, tmp_path: Path):
    minillm(*finetune)
    run = tmp_path / RUNS_FOLDER / "finetune" / "version_0"
    code, out, _ = minillm("fit", "--ckpt_path", run, "--trainer.max_steps", 8)
    assert code == 0
    assert "--init_from" not in out
    assert yaml.safe_load((run / "config.yaml").read_text())["init_from"].endswith(
        "smoke/version_0/checkpoints/best.ckpt"
    )


def test_a_longer_context_needs_rotary_positions_and_a_shorter_one_does_not(
    finetune: list[object], minillm: Run, refused: Callable[..., str], tmp_path: Path
):
    assert "exceeds the 16 learned position embeddings of" in refused(*finetune, "--data.context_length", 17)
    assert minillm(*finetune, "--data.context_length", 8)[0] == 0
    assert package.load(tmp_path / RUNS_FOLDER / "finetune" / "version_0")[0].config.context_length == 8
    rotary = ("--model.position", "rotary", "--trainer.default_root_dir", tmp_path, "--name", "rotary")
    minillm("fit", "--config", CONFIGS / "smoke.yaml", *rotary)
    longer = [
        *finetune,
        "--init_from",
        tmp_path / RUNS_FOLDER / "rotary" / "version_0",
        "--data.context_length",
        40,
    ]
    assert minillm(*longer)[0] == 0
    assert package.load(tmp_path / RUNS_FOLDER / "finetune" / "version_1")[0].config.context_length == 40


def test_a_byte_pair_tokenizer_is_kept_without_new_tokens(finetune: list[object], minillm: Run, tmp_path: Path):
    pairs = ("--data.vocab_size", 300, "--trainer.default_root_dir", tmp_path, "--name", "pairs")
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", *pairs)[0] == 0
    code, out, _ = minillm(*finetune, "--init_from", tmp_path / RUNS_FOLDER / "pairs" / "version_0")
    assert code == 0
    assert "with its byte-pair tokenizer" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.embed_dim", 32), "--model.embed_dim 32 does not match .*best.ckpt, trained with 16: leave it out"),
        (
            ("--data.vocab_size", 300),
            "--data.vocab_size 300 does not match .*best.ckpt, trained with character tokens: leave it out",
        ),
        (
            ("--ckpt_path", "last"),
            "--init_from initializes a new run .* --ckpt_path resumes a run: leave out --init_from",
        ),
        (("--data.grow_tokenizer", "false"), "corpus '.*mine.txt': character 'é' .* is not in the vocabulary of 65"),
        (
            ("--data.tokenizer.alphabet", "abc"),
            "--data.tokenizer is not allowed, because .*best.ckpt contains its tokenizer",
        ),
        (("--init_from", "nowhere"), "no checkpoint at 'nowhere'"),
        (("--model.frozen_blocks", 2), "frozen_blocks must be from 0 to 1, got 2"),
    ],
)
def test_flags_that_conflict_with_the_old_weights_are_rejected(
    finetune: list[object], refused: Callable[..., str], flags: tuple[object, ...], message: str
):
    assert re.search(message, refused(*finetune, *flags))


def test_a_fine_tuned_run_resumes_from_its_own_configuration(finetune: list[object], minillm: Run, tmp_path: Path):
    run = tmp_path / RUNS_FOLDER / "finetune" / "version_0"
    minillm(*finetune)
    again = ("fit", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    code, out, err = minillm(*again, "--trainer.max_steps", 8)
    assert code == 0, err
    assert "from step 6, writing to" in out
    assert (
        minillm("validate", "--config", run / "config.yaml", "--ckpt_path", run, "--trainer.limit_val_batches", 2)[0]
        == 0
    )
    assert yaml.safe_load((run / "config.yaml").read_text())["init_from"] is not None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_starts_reports_that_nothing_was_saved(
    finetune: list[object], minillm: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, signum: signal.Signals
):
    monkeypatch.setattr(trainer_cli, "initialize_from", lambda *args: os.kill(os.getpid(), signum))
    before = signal.getsignal(signum)
    code, _, err = minillm(*finetune)
    assert code == 128 + signum
    assert err == f"minillm: stopped by {signum.name}; no checkpoint has been saved yet\n"
    assert signal.getsignal(signum) == before
    assert not (tmp_path / RUNS_FOLDER / "finetune").exists()


def test_only_fit_accepts_init_from(in_smoke_run: Path, refused: Callable[..., str]):
    assert "--init_from initializes a new run of fit" in refused("validate", "--init_from", "last")


def test_weights_are_copied_up_to_the_smaller_number_of_tokens_and_positions():
    old = Decoder(ModelConfig(5, 8, embed_dim=4, num_layers=1, num_heads=2))
    new = Decoder(ModelConfig(7, 6, embed_dim=4, num_layers=1, num_heads=2))
    state = {f"model.{name}": weight for name, weight in old.state_dict().items()}
    initialize_from(Checkpoint(Path("base.ckpt"), {"state_dict": state}), new)
    ids = torch.randint(5, (2, 6))
    old.eval()
    new.eval()
    torch.testing.assert_close(new(ids)[..., :5], old(ids))
    torch.testing.assert_close(new(ids)[..., 5], old(ids).mean(dim=-1))
