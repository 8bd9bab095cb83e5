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
from minillm.checkpoint.find import find_checkpoint, read_checkpoint_to_resume, read_latest_checkpoint
from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.validation import Checkpoint
from minillm.generation.load import load


class Bomb:
    """Object whose pickle creates a folder when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_checkpoint_file_alone_loads_model_and_tokenizer(in_smoke_run: Path):
    model, tokenizer = minillm.load(in_smoke_run / "checkpoints" / "best.ckpt")
    assert not model.training
    assert (tokenizer.vocab_size, tokenizer.decode(tokenizer.encode("ROMEO:"))) == (65, "ROMEO:")
    logits = model(torch.tensor([tokenizer.encode("ROMEO:")]))
    assert (logits.shape, logits.dtype) == ((1, 6, 65), torch.float32)
    assert len("".join(minillm.generate(model, tokenizer, "ROMEO:", max_new_tokens=30, top_k=40, seed=1))) == 30


def test_best_last_and_run_folder_resolve_to_checkpoint_files(in_smoke_run: Path):
    best, last = (in_smoke_run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert (find_checkpoint("best").resolve(), find_checkpoint("last").resolve()) == (best, last)
    for folder in (in_smoke_run, in_smoke_run / "checkpoints"):
        assert find_checkpoint(folder) == best
        assert read_checkpoint_to_resume(folder)[0].path == last
    assert read_checkpoint_to_resume(best)[0].path == find_checkpoint(best) == best


def test_best_is_the_most_recently_modified_one(tmp_path: Path):
    for age, run in enumerate(["a/version_10", "b/version_0", "a/version_9"]):  # newest first
        file = tmp_path / "lightning_logs" / run / "checkpoints" / "best.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    assert find_checkpoint("best") == Path("lightning_logs/a/version_10/checkpoints/best.ckpt")


def test_last_is_the_latest_valid_checkpoint_and_damaged_ones_are_warned_of(in_smoke_run: Path, tmp_path: Path):
    run = tmp_path / "version_0"
    shutil.copytree(in_smoke_run, run)
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    assert read_latest_checkpoint(RunFolder(run)).path == last
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"skipped: .*last\.ckpt is not a valid MiniLLM checkpoint: .* truncated"):
        assert read_latest_checkpoint(RunFolder(run)).path == best
    best.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"(last\.ckpt .* truncated|best\.ckpt .* it is empty)"),
        pytest.raises(ValueError, match=r"no valid checkpoint in .*/checkpoints"),
    ):
        read_latest_checkpoint(RunFolder(run))


def test_checkpoint_without_read_permission_is_not_skipped_because_it_may_be_valid(
    in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch
):
    read = finding.read_checkpoint

    def forbidden(path: Path, as_tensor: Callable[[Any], Any]) -> Checkpoint:
        if path.name == "last.ckpt":
            raise PermissionError(f"not allowed to read {path.name}")
        return read(path, as_tensor)

    monkeypatch.setattr(finding, "read_checkpoint", forbidden)
    with pytest.raises(PermissionError, match=r"not allowed to read last\.ckpt"):
        read_latest_checkpoint(RunFolder(in_smoke_run))
    best = in_smoke_run / "checkpoints" / "best.ckpt"
    assert read_checkpoint_to_resume(best)[1] is None  # a new run folder: the unreadable checkpoint may have more steps


def test_pickle_with_code_is_refused_and_the_code_does_not_run(tmp_path: Path):
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match="it contains more than plain values and tensors"):
        load(tmp_path / "bomb.ckpt")
    assert not Path("exploded").exists()


def set_steps(run: Path, **steps: int) -> None:
    """Change the step counts of a run's checkpoints."""
    for name, step in steps.items():
        path = run / "checkpoints" / f"{name}.ckpt"
        torch.save({**torch.load(path, weights_only=True), "global_step": step}, path)


def test_resume_continues_in_the_run_folder_unless_it_has_more_steps(in_smoke_run: Path):
    best, last = (in_smoke_run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    set_steps(in_smoke_run, best=10, last=20)
    run = RunFolder(in_smoke_run)
    found = [read_checkpoint_to_resume(name) for name in (in_smoke_run, in_smoke_run / "checkpoints", last, best)]
    assert [(checkpoint.step, folder) for checkpoint, folder in found] == [(20, run), (20, run), (20, run), (10, None)]
    set_steps(in_smoke_run, best=20)
    assert read_checkpoint_to_resume(best)[1] == run
    shutil.copy(last, "copy.ckpt")
    assert read_checkpoint_to_resume("copy.ckpt")[1] is None
    best.unlink()
    assert read_checkpoint_to_resume(last)[1] == run


def test_resume_uses_the_checkpoint_with_the_most_steps_and_last_on_a_tie(in_smoke_run: Path):
    for best, newest in ((19, "last"), (20, "last"), (21, "best")):
        set_steps(in_smoke_run, best=best, last=20)
        assert read_latest_checkpoint(RunFolder(in_smoke_run)).path.stem == newest
        for name in (in_smoke_run, "last"):
            assert read_checkpoint_to_resume(name)[0].path.stem == newest


def test_weights_of_the_resumed_checkpoint_are_converted_by_as_tensor(in_smoke_run: Path):
    for name in ("last", "best", in_smoke_run, in_smoke_run / "checkpoints" / "last.ckpt"):
        for as_tensor, expected_type in ((torch.tensor, torch.Tensor), (np.copy, np.ndarray)):
            checkpoint, _ = read_checkpoint_to_resume(name, as_tensor)
            assert {type(weight) for weight in checkpoint.weights.values()} == {expected_type}
    assert {type(weight) for weight in read_checkpoint_to_resume("last")[0].weights.values()} == {np.ndarray}


def test_age_of_a_run_is_that_of_its_newest_checkpoint(in_smoke_run: Path):
    other = in_smoke_run.with_name("version_1")
    shutil.copytree(in_smoke_run, other)
    for (run, stem), time in {
        (in_smoke_run, "best"): 1,
        (in_smoke_run, "last"): 3,
        (other, "best"): 4,
        (other, "last"): 2,
    }.items():
        os.utime(run / "checkpoints" / f"{stem}.ckpt", (time, time))
    assert find_checkpoint("last").resolve() == other / "checkpoints" / "last.ckpt"
    os.utime(in_smoke_run / "checkpoints" / "last.ckpt", (5, 5))
    assert find_checkpoint("last").resolve() == in_smoke_run / "checkpoints" / "last.ckpt"
    assert find_checkpoint("best").resolve() == other / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no checkpoint at '': pass a checkpoint file, a run folder, 'best' or 'last'"),
        ("missing.ckpt", "no checkpoint at 'missing.ckpt': pass"),
        ("folder", "no checkpoint at 'folder/checkpoints/best.ckpt': pass"),
        ("folder/checkpoints", "no checkpoint at 'folder/checkpoints/best.ckpt': pass"),
        ("https://example.com/a.ckpt", "'https://example.com/a.ckpt' is a URL: download the file first"),
        ("best", "no 'best' checkpoint below .*/lightning_logs: train a model first"),
        ("last", "no 'last' checkpoint below .*/lightning_logs: train a model first"),
    ],
)
def test_name_without_a_checkpoint_is_refused(name: str, message: str):
    Path("folder/checkpoints").mkdir(parents=True)
    Path("folder/last.ckpt").touch()
    Path("checkpoints").mkdir()  # '' does not resolve to the working directory
    Path("checkpoints/best.ckpt").touch()
    Path("lightning_logs/a/checkpoints/best.ckpt").mkdir(parents=True)
    Path("lightning_logs/a/checkpoints/last.ckpt").mkdir()
    for resolve in (find_checkpoint, read_checkpoint_to_resume):
        with pytest.raises(ValueError, match=f"^{message}"):
            resolve(name)
