"""A resumed run trains on the text that it started with, or says what has changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
TEXT = "to be or not to be, that is the question\n" * 60
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"), "--data.corpus", "text.txt")
MORE = ("--ckpt_path", "last", "--trainer.max_steps", 30)


@pytest.fixture(autouse=True)
def text() -> Path:
    path = Path("text.txt")
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("new", [TEXT + "to be\n", TEXT[41:], "et" + TEXT[2:]], ids=["more", "less", "as much"])
def test_resuming_with_another_text_behind_the_name_is_refused(
    new: str, text: Path, minillm: Run, refused: Callable[..., str]
):
    assert minillm(*FIT)[0] == 0
    minillm("validate", "--ckpt_path", "last", "--trainer.limit_val_batches", 2)  # fills the cache of token ids
    text.write_text(new)
    with pytest.warns(UserWarning, match="^the text of data.corpus 'text.txt' has changed since .*best.ckpt"):
        assert minillm("validate", "--trainer.limit_val_batches", 2)[0] == 0
    err = refused(*FIT, *MORE)
    assert "the text of data.corpus 'text.txt' is not the one that lightning_logs/smoke/version_0/checkpoints/" in err
    assert "last.ckpt was trained with: restore it, or train on the new text with --init_from lightning_logs" in err
    text.write_text(TEXT)
    assert minillm(*FIT, *MORE)[0] == 0


def test_renamed_text_is_not_refused(text: Path, minillm: Run):
    assert minillm(*FIT)[0] == 0
    text.rename("renamed.txt")
    assert minillm(*FIT[:-1], "renamed.txt", *MORE)[0] == 0


def test_resuming_with_another_validation_text_is_refused(minillm: Run, refused: Callable[..., str]):
    Path("val.txt").write_text(TEXT[:300])
    assert minillm(*FIT, "--data.val_corpus", "val.txt")[0] == 0
    Path("val.txt").write_text(TEXT[:400])
    assert "the text of data.val_corpus 'val.txt' is not the one" in refused(*FIT, *MORE)
    assert "the text of data.val_corpus None is not the one" in refused(*FIT, *MORE, "--data.val_corpus", "null")


def test_evaluating_another_text_by_its_own_name_does_not_warn(minillm: Run):
    assert minillm(*FIT)[0] == 0
    Path("other.txt").write_text(TEXT * 2)
    assert minillm("validate", "--data.corpus", "other.txt", "--trainer.limit_val_batches", 2)[0] == 0


@pytest.mark.parametrize(
    ("sampling", "flags", "message"),
    [
        ("shuffled", ("--data.batch_size", 4), "repeats or leaves out windows: batch_size was 8 and is now 4"),
        ("random", ("--data.batch_size", 4), None),
        ("shuffled", ("--trainer.accumulate_grad_batches", 2), None),
    ],
)
def test_changed_number_of_windows_is_warned_of(
    sampling: str, flags: tuple[object, ...], message: str | None, minillm: Run
):
    assert minillm(*FIT, "--data.sampling", sampling)[0] == 0
    if message is None:  # a warning is an error in these tests
        assert minillm(*FIT, *MORE, *flags)[0] == 0
    else:
        with pytest.warns(UserWarning, match=message):
            assert minillm(*FIT, *MORE, *flags)[0] == 0


@pytest.mark.parametrize("new", [TEXT + "Zounds", "too short"], ids=["with a new character", "too short"])
def test_change_of_the_text_is_reported_rather_than_its_consequence(
    new: str, text: Path, minillm: Run, refused: Callable[..., str]
):
    assert minillm(*FIT)[0] == 0
    text.write_text(new)
    assert "the text of data.corpus 'text.txt' is not the one that lightning_logs" in refused(*FIT, *MORE)
    with pytest.warns(UserWarning, match=r"^the text of data.corpus 'text.txt' has changed since"):
        assert minillm("validate")[0] == 2
