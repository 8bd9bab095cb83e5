from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from minillm.data.datamodule import TextDataModule
from minillm.tokenizer import CharTokenizer


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text("0123456789" * 13, encoding="utf-8")
    return str(tmp_path / "text.txt")


def attached(data: TextDataModule, **trainer: Any) -> TextDataModule:
    """Attach a trainer in the given state to the datamodule."""
    state = {
        "state": SimpleNamespace(fn="fit"),
        "global_rank": 0,
        "world_size": 1,
        "max_steps": 10,
        "accumulate_grad_batches": 1,
        "processed": 0,
        **trainer,
    }
    progress = SimpleNamespace(total=SimpleNamespace(processed=state.pop("processed")))
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(fit_loop=fit_loop, **state)  # pyright: ignore[reportAttributeAccessIssue]
    return data


def test_the_first_90_percent_are_the_training_split_and_the_rest_the_validation_split(corpus: str):
    data = attached(TextDataModule(corpus, context_length=7))
    assert data.tokenizer.decode(data.train.tokens[:].tolist()) == ("0123456789" * 13)[:117]
    assert data.tokenizer.decode(data.val.tokens[:].tolist()) == ("0123456789" * 13)[117:]


def test_training_windows_are_one_token_longer_than_the_context(corpus: str):
    batches = list(attached(TextDataModule(corpus, context_length=7, batch_size=3)).train_dataloader())
    assert [batch.shape for batch in batches] == [(3, 8)] * 10
    assert {batch.dtype for batch in batches} == {torch.int64}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_continues_with_the_next_batch(corpus: str, num_workers: int):
    torch.manual_seed(5)
    whole = list(attached(TextDataModule(corpus, context_length=7)).train_dataloader())
    resumed = attached(TextDataModule(corpus, context_length=7, num_workers=num_workers), processed=6)
    assert [batch.tolist() for batch in resumed.train_dataloader()] == [batch.tolist() for batch in whole[6:]]


def test_ranks_divide_the_validation_split_and_draw_different_training_windows(corpus: str):
    ranks = [
        attached(TextDataModule(corpus, context_length=2, batch_size=2), global_rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    targets = [batch[:, 1:].flatten() for data in ranks for batch in data.val_dataloader()]
    assert sorted(torch.cat(targets).tolist()) == sorted(ranks[0].val.tokens[1:].tolist())
    first, second = (next(iter(data.train_dataloader())) for data in ranks)
    assert not torch.equal(first, second)


def test_without_max_steps_an_epoch_covers_the_training_split_and_epochs_differ(corpus: str):
    data = attached(TextDataModule(corpus, context_length=7, batch_size=2), max_steps=-1)
    first = list(data.train_dataloader())
    assert len(first) == 9  # 117 characters in batches of two windows of 7
    trainer: Any = data.trainer
    trainer.fit_loop.epoch_loop.batch_progress.total.processed = 9
    second = list(data.train_dataloader())
    assert len(second) == 9
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_with_a_separate_validation_corpus_the_whole_corpus_is_for_training(corpus: str, tmp_path: Path):
    (tmp_path / "other.txt").write_text("31415926", encoding="utf-8")
    data = TextDataModule(corpus, val_corpus=str(tmp_path / "other.txt"), context_length=7)
    assert data.tokenizer.decode(data.train.tokens[:].tolist()) == "0123456789" * 13
    assert data.tokenizer.decode(data.val.tokens[:].tolist()) == "31415926"


def test_a_validation_corpus_with_unknown_characters_is_rejected(corpus: str, tmp_path: Path):
    (tmp_path / "other.txt").write_text("3x1415926", encoding="utf-8")
    with pytest.raises(ValueError, match="'x'"):
        TextDataModule(corpus, val_corpus=str(tmp_path / "other.txt"), context_length=7)


def test_outside_training_sliding_windows_follow_the_consecutive_windows(corpus: str):
    data = TextDataModule(corpus, context_length=4, stride=3)
    consecutive = attached(data).val_dataloader()
    batches = list(attached(data, state=SimpleNamespace(fn="validate")).val_dataloader())
    first, sliding = batches[: len(consecutive)], batches[len(consecutive) :]
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in consecutive]
    assert [(batch.tolist(), num_scored) for batch, num_scored in sliding] == [
        ([[7, 8, 9, 0, 1]], 4),
        ([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]], 3),
        ([[5, 6, 7, 8, 9]], 2),
    ]


def test_a_given_tokenizer_is_used_unchanged(corpus: str):
    tokenizer = CharTokenizer("9876543210ab")
    data = attached(TextDataModule(corpus, context_length=7, tokenizer=tokenizer))
    assert data.vocab_size == 12
    assert data.train.tokens[:3].tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"context_length": 117},
            "117 training tokens and 13 validation tokens, but context_length 117 requires at least 118 and 2",
        ),
        ({"context_length": 0}, "context_length must be at least 1, got 0"),
        ({"stride": 0}, "stride must be from 1 to 64, got 0"),
        ({"context_length": 7, "stride": 8}, "stride must be from 1 to 7, got 8"),
        ({"val_corpus": "no/such"}, "no corpus '.*no/such': pass tinyshakespeare"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
    ],
)
def test_out_of_range_settings_are_rejected(corpus: str, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TextDataModule(corpus, **settings)
