import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
SMOKE = str(CONFIGS / "smoke.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--config", "unknown.yaml"], "embed_dimm"),
        (["--config", "broken.yaml"], "broken.yaml"),
        (
            ["--data.corpus", "missing.txt"],
            "corpus 'missing.txt' is not tinyshakespeare, shakespeare, nor an existing file",
        ),
        (["--data.corpus", ""], "the corpus has no name"),
        (["--seed_everything", "-1"], "seed"),
        (["--data.corpus", "latin1.txt"], "latin1.txt is not UTF-8 text: byte 0xe9 at offset 3"),
        (["--data.corpus", "empty.txt"], "corpus 'empty.txt' is empty"),
        (["--data.corpus", "short.txt"], "corpus 'short.txt' is too short: of its 10 characters"),
        (["--data.batch_size", "many"], "data.batch_size\": Expected a <class 'int'>. Got value: many"),
        (["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        (["--model.embed_dim", "16", "--model.num_heads", "3"], "embed_dim 16 must be divisible by num_heads 3"),
        (["--model.num_layers", "0"], "num_layers must be at least 1, got 0"),
        (["--model.dropout", "1"], "dropout must be at least 0 and less than 1, got 1.0"),
        (["--model.learning_rate", "-1"], "Invalid learning rate: -1.0"),
        (["--model.vocab_size", "70"], "vocab_size"),
        (["--samples.prompt", "é"], "'é' (U+00E9) at position 0"),
        (["--samples.temperature", "-1"], "temperature must be 0"),
        (["--attention_maps.sentence", ""], "sentence must hold at least one character"),
        (["--checkpoints.every_n_train_steps", "0"], "every_n_train_steps must be at least 1"),
        (["--trainer.precision", "7"], "trainer.precision"),
        (["--trainer.accelerator", "quantum"], "quantum"),
        (["--trainer.devices", "0"], "devices"),
        (["--no_such_flag", "1"], "unrecognized arguments: --no_such_flag"),
        (["--ckpt_path", "nothing"], "no checkpoint at 'nothing'"),
        (["--ckpt_path", ""], "no checkpoint at '.'"),
        (["--ckpt_path", "latin1.txt"], "latin1.txt is not a whole MiniLLM checkpoint"),
        (["--ckpt_path", "empty.txt"], "empty.txt is not a whole MiniLLM checkpoint: it is empty"),
    ],
)
def test_what_is_configured_wrongly_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
):
    monkeypatch.chdir(tmp_path)
    Path("unknown.yaml").write_text("model:\n  embed_dimm: 3\n")
    Path("broken.yaml").write_text("model: [\n")
    Path("latin1.txt").write_bytes(b"caf\xe9")
    Path("empty.txt").touch()
    Path("short.txt").write_text("x" * 10)
    assert message in refused("fit", "--config", SMOKE, *arguments)


def test_a_flag_that_does_not_fit_the_checkpoint_is_refused(in_smoke_run: Path, minillm: Run):
    for flag, value in (("model.embed_dim", 32), ("model.num_heads", 4), ("data.context_length", 8)):
        code, _, err = minillm("validate", f"--{flag}", value)
        assert code == 2
        assert re.search(rf"--{flag} {value} does not fit .*best.ckpt, trained with \d+: leave it out", err)


def test_a_text_with_characters_that_the_checkpoint_does_not_know_is_refused(
    in_smoke_run: Path, tmp_path: Path, minillm: Run
):
    (tmp_path / "text.txt").write_text("naïve " * 100, encoding="utf-8")
    code, _, err = minillm("validate", "--data.corpus", tmp_path / "text.txt")
    assert (code, err.count("\n")) == (2, 1)
    assert "'ï' (U+00EF) at position 2" in err
