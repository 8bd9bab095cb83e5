import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import minillm
from minillm.checkpoint import find as finding
from minillm.checkpoint.find import find_checkpoint, newest_readable, open_to_resume
from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.validation import Checkpoint
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
    assert (find_checkpoint("best").resolve(), find_checkpoint("last").resolve()) == (best, last)
    for folder in (in_smoke_run, in_smoke_run / "checkpoints"):
        assert find_checkpoint(folder) == best
        assert open_to_resume(folder)[0].path == last
    assert open_to_resume(best)[0].path == find_checkpoint(best) == best


def test_best_is_that_of_the_newest_run(tmp_path: Path):
    for age, run in enumerate(["a/version_10", "b/version_0", "a/version_9"]):  # the newest first
        file = tmp_path / "lightning_logs" / run / "checkpoints" / "best.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    assert find_checkpoint("best") == Path("lightning_logs/a/version_10/checkpoints/best.ckpt")


def test_last_is_the_newest_file_that_loads_and_a_damaged_one_is_named(in_smoke_run: Path, tmp_path: Path):
    run = tmp_path / "version_0"
    shutil.copytree(in_smoke_run, run)
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    assert newest_readable(run / "checkpoints").path == last
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"passed over: .*last\.ckpt is not a whole MiniLLM checkpoint: .* cut off"):
        assert newest_readable(run / "checkpoints").path == best
    best.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"(last\.ckpt .* cut off|best\.ckpt .* it is empty)"),
        pytest.raises(ValueError, match=r"none of the checkpoints in .* can be read"),
    ):
        newest_readable(run / "checkpoints")


def test_a_checkpoint_that_may_not_be_read_is_not_passed_over_for_it_may_be_whole(
    in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch
):
    read = finding.read_checkpoint

    def forbidden(path: Path, as_tensor: Callable[[Any], Any]) -> Checkpoint:
        if path.name == "last.ckpt":
            raise PermissionError(f"not allowed to read {path.name}")
        return read(path, as_tensor)

    monkeypatch.setattr(finding, "read_checkpoint", forbidden)
    with pytest.raises(PermissionError, match=r"not allowed to read last\.ckpt"):
        newest_readable(in_smoke_run / "checkpoints")
    best = in_smoke_run / "checkpoints" / "best.ckpt"
    assert open_to_resume(best)[1] is None  # a new run folder: what cannot be read may have more steps


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path):
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match="it holds more than plain values"):
        load(tmp_path / "bomb.ckpt")
    assert not Path("exploded").exists()


def with_steps(run: Path, **steps: int) -> None:
    """Give the checkpoints of a run other numbers of steps."""
    for name, step in steps.items():
        path = run / "checkpoints" / f"{name}.ckpt"
        torch.save({**torch.load(path, weights_only=True), "global_step": step}, path)


def test_a_run_goes_on_in_its_folder_unless_it_has_more_steps_already(in_smoke_run: Path):
    best, last = (in_smoke_run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    with_steps(in_smoke_run, best=10, last=20)
    run = RunFolder(in_smoke_run)
    found = [open_to_resume(name) for name in (in_smoke_run, in_smoke_run / "checkpoints", last, best)]
    assert [(checkpoint.step, folder) for checkpoint, folder in found] == [(20, run), (20, run), (20, run), (10, None)]
    with_steps(in_smoke_run, best=20)
    assert open_to_resume(best)[1] == run
    shutil.copy(last, "copy.ckpt")
    assert open_to_resume("copy.ckpt")[1] is None
    best.unlink()
    assert open_to_resume(last)[1] == run


def test_the_checkpoint_of_the_most_steps_is_gone_on_from_and_of_equals_the_last(in_smoke_run: Path):
    for best, newest in ((19, "last"), (20, "last"), (21, "best")):
        with_steps(in_smoke_run, best=best, last=20)
        assert newest_readable(in_smoke_run / "checkpoints").path.stem == newest
        assert open_to_resume(in_smoke_run)[0].path.stem == open_to_resume("last")[0].path.stem == newest


def test_what_is_opened_to_resume_holds_what_its_tensors_are_made_as(in_smoke_run: Path):
    for name in ("last", "best", in_smoke_run, in_smoke_run / "checkpoints" / "last.ckpt"):
        for as_tensor, kind in ((torch.tensor, torch.Tensor), (np.copy, np.ndarray)):
            checkpoint, _ = open_to_resume(name, as_tensor)
            assert {type(weight) for weight in checkpoint.weights.values()} == {kind}
    assert {type(weight) for weight in open_to_resume("last")[0].weights.values()} == {np.ndarray}


def test_a_run_is_as_new_as_the_newest_of_its_checkpoints(in_smoke_run: Path):
    other = in_smoke_run.with_name("version_1")
    shutil.copytree(in_smoke_run, other)
    for (run, kind), time in {
        (in_smoke_run, "best"): 1,
        (in_smoke_run, "last"): 3,
        (other, "best"): 4,
        (other, "last"): 2,
    }.items():
        os.utime(run / "checkpoints" / f"{kind}.ckpt", (time, time))
    assert find_checkpoint("last").resolve() == other / "checkpoints" / "last.ckpt"
    os.utime(in_smoke_run / "checkpoints" / "last.ckpt", (5, 5))
    assert find_checkpoint("last").resolve() == in_smoke_run / "checkpoints" / "last.ckpt"
    assert find_checkpoint("best").resolve() == other / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no checkpoint at '': give a checkpoint file, a run folder, 'best' or 'last'"),
        ("missing.ckpt", "no checkpoint at 'missing.ckpt': give"),
        ("folder", "no checkpoint at 'folder/checkpoints/best.ckpt': give"),
        ("folder/checkpoints", "no checkpoint at 'folder/checkpoints/best.ckpt': give"),
        ("https://example.com/a.ckpt", "'https://example.com/a.ckpt' is an address: download the file first"),
        ("best", "no 'best' checkpoint below .*/lightning_logs: train a model first"),
        ("last", "no 'last' checkpoint below .*/lightning_logs: train a model first"),
    ],
)
def test_a_name_that_means_no_checkpoint_is_refused(name: str, message: str):
    Path("folder/checkpoints").mkdir(parents=True)
    Path("folder/last.ckpt").touch()
    Path("checkpoints").mkdir()  # of no name, and so not meant by ''
    Path("checkpoints/best.ckpt").touch()
    Path("lightning_logs/a/checkpoints/best.ckpt").mkdir(parents=True)
    Path("lightning_logs/a/checkpoints/last.ckpt").mkdir()
    for look in (find_checkpoint, open_to_resume):
        with pytest.raises(ValueError, match=f"^{message}"):
            look(name)
