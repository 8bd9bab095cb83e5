import os
import pickle
from pathlib import Path

import pytest
import torch

import minillm
from minillm.generation.checkpoint import find, load


class Bomb:
    """A pickle that would leave a file behind when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_checkpoint_alone_gives_the_model_and_its_tokenizer(in_smoke_run: Path):
    model, tokenizer = minillm.load(in_smoke_run / "checkpoints" / "best.ckpt")
    assert not model.training
    assert (tokenizer.vocab_size, tokenizer.decode(tokenizer.encode("ROMEO:"))) == (65, "ROMEO:")
    logits = model(torch.tensor([tokenizer.encode("ROMEO:")]))
    assert (logits.shape, logits.dtype) == ((1, 6, 65), torch.float32)
    assert len("".join(minillm.generate(model, tokenizer, "ROMEO:", max_new_tokens=30, top_k=40, seed=1))) == 30


def test_best_last_and_a_run_folder_name_files(in_smoke_run: Path):
    for name in ("best", "last"):
        assert find(name).resolve() == in_smoke_run / "checkpoints" / f"{name}.ckpt"
        assert find(in_smoke_run, in_folder=name) == in_smoke_run / "checkpoints" / f"{name}.ckpt"


def test_best_is_that_of_the_newest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for age, run in enumerate(["a/version_10", "b/version_0", "a/version_9"]):  # the newest first
        file = tmp_path / "lightning_logs" / run / "checkpoints" / "best.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    assert find("best") == Path("lightning_logs/a/version_10/checkpoints/best.ckpt")


def test_what_names_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, message in (
        ("best", "no 'best' checkpoint below .*lightning_logs: train a model first"),
        ("nothing.ckpt", "no checkpoint at 'nothing.ckpt'"),
        ("", "no checkpoint at"),
        (str(tmp_path), "no checkpoint at .*best.ckpt"),
        ("https://example.com/a.ckpt", "is an address: download the file first"),
    ):
        with pytest.raises(ValueError, match=message):
            find(name)


def test_files_that_are_not_whole_checkpoints_of_ours_are_refused(in_smoke_run: Path, tmp_path: Path):
    whole = (in_smoke_run / "checkpoints" / "best.ckpt").read_bytes()
    file = tmp_path / "a.ckpt"
    for content, message in (
        (b"", "it is empty"),
        (whole[:1000], "was cut off"),
        (whole[:-100], "was cut off"),
        (b"abc\xff", "it is something else"),
        (pickle.dumps({"state_dict": 1}, protocol=2), "MiniLLM checkpoint"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(file)


def test_a_checkpoint_that_lacks_a_part_or_whose_parts_do_not_fit_is_refused(in_smoke_run: Path, tmp_path: Path):
    whole = torch.load(in_smoke_run / "checkpoints" / "best.ckpt", weights_only=True)
    file = tmp_path / "a.ckpt"
    for changed in (
        {"weights": torch.zeros(3)},
        {**whole, "tokenizer": {}},
        {**whole, "tokenizer": {"alphabet": "aa"}},
        {**whole, "tokenizer": {"alphabet": "ab"}},
        {**whole, "hyper_parameters": {**whole["hyper_parameters"], "embed_dim": 18}},
        {**whole, "hyper_parameters": {}},
        {**whole, "state_dict": {}},
    ):
        torch.save(changed, file)
        with pytest.raises(ValueError, match=r"a\.ckpt is not a whole MiniLLM checkpoint"):
            load(file)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match="it holds more than plain values"):
        load(tmp_path / "bomb.ckpt")
    assert not Path("exploded").exists()
