import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import minillm
from minillm.checkpoint.find import find_checkpoint, read_checkpoint_to_resume, read_latest_checkpoint
from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.validation import Checkpoint, read_checkpoint
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


def test_best_of_runs_without_sessions_is_the_most_recently_modified_one(tmp_path: Path):
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


def test_checkpoint_without_read_permission_is_not_skipped_because_it_may_be_valid(in_smoke_run: Path):
    def forbidden(path: Path) -> Checkpoint:
        if path.name == "last.ckpt":
            raise PermissionError(f"not allowed to read {path.name}")
        return read_checkpoint(path)

    with pytest.raises(PermissionError, match=r"not allowed to read last\.ckpt"):
        read_latest_checkpoint(RunFolder(in_smoke_run), forbidden)
    best = in_smoke_run / "checkpoints" / "best.ckpt"
    # a new run folder: the unreadable checkpoint may have more steps
    assert read_checkpoint_to_resume(best, forbidden)[1] is None


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


def test_last_is_last_ckpt_even_if_best_ckpt_has_more_steps(in_smoke_run: Path):
    """A killed run repeats the steps after last.ckpt, and saves best.ckpt again."""
    set_steps(in_smoke_run, best=21, last=20)
    last, best = in_smoke_run / "checkpoints" / "last.ckpt", in_smoke_run / "checkpoints" / "best.ckpt"
    assert read_latest_checkpoint(RunFolder(in_smoke_run)).path == last
    for name in (in_smoke_run, "last", last):
        checkpoint, run = read_checkpoint_to_resume(name)
        assert (checkpoint.step, run) == (20, RunFolder(in_smoke_run))
    assert read_checkpoint_to_resume(best)[0].step == 21
    last.unlink()
    assert read_checkpoint_to_resume("last")[0].step == 21


def test_valid_checkpoint_resumes_in_its_folder_if_last_and_best_are_damaged(in_smoke_run: Path):
    checkpoints = in_smoke_run / "checkpoints"
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "step_20.ckpt")
    (checkpoints / "best.ckpt").unlink()
    (checkpoints / "last.ckpt").write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped"):
        assert read_checkpoint_to_resume(checkpoints / "step_20.ckpt")[1] == RunFolder(in_smoke_run)


def test_the_resumed_checkpoint_is_read_as_the_caller_reads_it(in_smoke_run: Path):
    for name in ("last", "best", in_smoke_run, in_smoke_run / "checkpoints" / "last.ckpt"):
        for as_tensor, expected_type in ((torch.tensor, torch.Tensor), (np.copy, np.ndarray)):
            checkpoint, _ = read_checkpoint_to_resume(name, partial(read_checkpoint, as_tensor=as_tensor))
            assert {type(weight) for weight in checkpoint.weights.values()} == {expected_type}
    assert {type(weight) for weight in read_checkpoint_to_resume("last")[0].weights.values()} == {np.ndarray}


def copy_run(run: Path, copy: Path, **session: object) -> Path:
    """Copy a run folder; change its last session."""
    shutil.copytree(run, copy)
    sessions = json.loads((copy / "environment.json").read_text())
    sessions["sessions"][-1].update({"folder": str(copy.resolve()), **session})
    (copy / "environment.json").write_text(json.dumps(sessions))
    return copy


def test_newest_run_is_the_one_that_says_it_started_last(in_smoke_run: Path):
    old = copy_run(in_smoke_run, in_smoke_run.with_name("version_1"), started="2020-01-01T00:00:00+00:00")
    other = copy_run(
        in_smoke_run, in_smoke_run.parent.with_name("a") / "version_0", started="2099-01-01T00:00:00+00:00"
    )
    os.utime(old / "checkpoints" / "last.ckpt")
    for name in ("best", "last"):
        assert find_checkpoint(name).resolve().parents[1] == other
        assert read_checkpoint_to_resume(name)[0].path.resolve().parents[1] == other
    assert read_checkpoint_to_resume("last", name="smoke")[0].path.resolve().parents[1] == in_smoke_run
    (other / "checkpoints" / "best.ckpt").unlink()
    assert find_checkpoint("best").resolve().parents[1] == in_smoke_run
    assert find_checkpoint("last").resolve().parents[1] == other


def test_copy_of_a_run_folder_is_older_than_the_run(in_smoke_run: Path):
    shutil.move(in_smoke_run, "moved")
    copy_run(Path("moved"), in_smoke_run, folder=str(in_smoke_run.resolve()))
    shutil.copytree(in_smoke_run, in_smoke_run.with_name("version_1"))
    shutil.copytree(in_smoke_run, in_smoke_run.with_name("a_copy"))
    for name in ("best", "last"):
        assert find_checkpoint(name).resolve().parents[1] == in_smoke_run


@pytest.mark.parametrize("content", [None, "{", "[]", '{"sessions": [{"started": 1}]}', '{"sessions": []}'])
def test_run_without_valid_sessions_has_the_age_of_its_newest_checkpoint(content: str | None, in_smoke_run: Path):
    (in_smoke_run / "environment.json").unlink()
    if content is not None:
        (in_smoke_run / "environment.json").write_text(content)
    other = in_smoke_run.with_name("version_1")
    shutil.copytree(in_smoke_run, other)
    for (run, stem), time in {
        (in_smoke_run, "best"): 1,
        (in_smoke_run, "last"): 3,
        (other, "best"): 4,
        (other, "last"): 2,
    }.items():
        os.utime(run / "checkpoints" / f"{stem}.ckpt", (time, time))
    assert find_checkpoint("last").resolve().parents[1] == other
    os.utime(in_smoke_run / "checkpoints" / "last.ckpt", (5, 5))
    assert find_checkpoint("last").resolve().parents[1] == in_smoke_run


def test_last_warns_of_a_newer_run_without_a_checkpoint(in_smoke_run: Path):
    newer = copy_run(in_smoke_run, in_smoke_run.with_name("version_1"), started="2099-01-01T00:00:00+00:00")
    shutil.rmtree(newer / "checkpoints")
    with pytest.warns(UserWarning, match=r"^skipped lightning_logs/smoke/version_1, which has no checkpoint yet$"):
        assert read_checkpoint_to_resume("last")[0].path.resolve().parents[1] == in_smoke_run
    assert find_checkpoint("best").resolve().parents[1] == in_smoke_run


def test_last_of_another_name_is_refused_with_the_newest_run(in_smoke_run: Path):
    with pytest.raises(
        ValueError,
        match=r"^no 'last' checkpoint of a run named 'other' below .*: the newest run is "
        r"lightning_logs/smoke/version_0: pass its folder, or --name smoke$",
    ):
        read_checkpoint_to_resume("last", name="other")


@pytest.mark.parametrize("link", ["lightning_logs", "lightning_logs/smoke", "lightning_logs/smoke/version_0"])
def test_runs_behind_symbolic_links_are_found(link: str, in_smoke_run: Path):
    shutil.move(link, "elsewhere")
    Path(link).symlink_to(Path("elsewhere").resolve())
    (Path(link) / "cycle").symlink_to(Path("elsewhere").resolve())
    for name in ("best", "last"):
        assert find_checkpoint(name) == Path(f"lightning_logs/smoke/version_0/checkpoints/{name}.ckpt")
    checkpoint, run = read_checkpoint_to_resume("last", name="smoke")
    assert run is not None
    assert (checkpoint.step, run.name) == (20, "smoke")


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
