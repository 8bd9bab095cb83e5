import os
import shutil
from pathlib import Path

import pytest
import torch

import minillm
from minillm.checkpoint.find import find, newest_in, open_to_resume
from minillm.generation.load import load


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
    best, last = (in_smoke_run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert (find("best").resolve(), find("last").resolve()) == (best, last)
    for folder in (in_smoke_run, in_smoke_run / "checkpoints"):
        assert find(folder) == best
        assert open_to_resume(folder)[0].path == last
    assert open_to_resume(best)[0].path == find(best) == best


def test_best_is_that_of_the_newest_run(tmp_path: Path):
    for age, run in enumerate(["a/version_10", "b/version_0", "a/version_9"]):  # the newest first
        file = tmp_path / "lightning_logs" / run / "checkpoints" / "best.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    assert find("best") == Path("lightning_logs/a/version_10/checkpoints/best.ckpt")


def test_last_is_the_newest_file_that_loads_and_a_damaged_one_is_named(in_smoke_run: Path, tmp_path: Path):
    run = tmp_path / "version_0"
    shutil.copytree(in_smoke_run, run)
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    assert newest_in(run / "checkpoints").path == last
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"passed over: .*last\.ckpt is not a whole MiniLLM checkpoint: .* cut off"):
        assert newest_in(run / "checkpoints").path == best
    best.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"(last\.ckpt .* cut off|best\.ckpt .* it is empty)"),
        pytest.raises(ValueError, match=r"none of the checkpoints in .* can be read"),
    ):
        newest_in(run / "checkpoints")


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path):
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match="it holds more than plain values"):
        load(tmp_path / "bomb.ckpt")
    assert not Path("exploded").exists()
