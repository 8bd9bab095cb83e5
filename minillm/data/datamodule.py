"""The LightningDataModule: text to batches of token ids."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from minillm.data.prepare import prepare
from minillm.data.windows import ConsecutiveWindows, RandomWindows, ShuffledWindows, SlidingWindows
from minillm.tokenizer import Tokenizer


class TextDataModule(LightningDataModule):
    """Serve windows of a text for training, and the rest of the text, whole, for validation.

    Args:
        corpus: `tinyshakespeare`, `shakespeare`, `other_plays`, or the path of a UTF-8 file, or of a folder or a
            pattern of them.
        val_corpus: A text to validate on, whole; by default the last tenth of `corpus`, which then is not trained on.
        context_length: Tokens the model looks at together.
        batch_size: Windows in a batch.
        sampling: Which windows make a batch: `random` ones, or `shuffled` ones, of which none overlaps another before
            the whole text has been seen.
        stride: Tokens from a window to the next one for `val_loss_sliding`, which `validate` and `test` measure; by
            default a quarter of the context.
        num_workers: Processes that prepare batches; with 0 the training process does, in 0.1 ms a batch.
        vocab_size: Tokens of a byte-pair tokenizer that learns from the corpus; by default a token is a character.
        tokenizer: One that is there already, instead.
        grow_tokenizer: Whether that one takes up the characters of the corpus that it does not know.

    Raises:
        ValueError: A number is out of range, or the corpus cannot be had, or is too short for so many tokens, or for
            one window of training and one token of validation, or has a character that the given tokenizer does not
            know.
    """

    def __init__(
        self,
        corpus: str = "tinyshakespeare",
        val_corpus: str | None = None,
        context_length: int = 64,
        batch_size: int = 32,
        sampling: Literal["random", "shuffled"] = "random",
        stride: int | None = None,
        num_workers: int = 0,
        vocab_size: int | None = None,
        tokenizer: Tokenizer | None = None,
        grow_tokenizer: bool = False,
    ) -> None:
        super().__init__()
        self.stride = max(context_length // 4, 1) if stride is None else stride
        for name, value, least, most in (
            ("context_length", context_length, 1, None),
            ("batch_size", batch_size, 1, None),
            ("stride", self.stride, 1, context_length),
            ("num_workers", num_workers, 0, None),
        ):
            if value < least or (most is not None and value > most):
                bounds = f"at least {least}" if most is None else f"from {least} to {most}"
                raise ValueError(f"{name} must be {bounds}, got {value}")
        self.save_hyperparameters("corpus", "val_corpus", "batch_size", "sampling", "vocab_size", logger=False)
        self.context_length = context_length
        self.batch_size = batch_size
        self.sampling = sampling
        self.num_workers = num_workers
        prepared = prepare(corpus, tokenizer, vocab_size, grow_tokenizer)
        self.tokenizer = prepared.tokenizer
        self.train, self.val = prepared.train, prepared.val
        if val_corpus is not None:
            self.train, self.val = prepared.whole, prepare(val_corpus, prepared.tokenizer).whole
        if len(self.train.tokens) <= context_length or len(self.val.tokens) < 2:
            raise ValueError(
                f"corpus {corpus!r} is too short: {len(self.train.tokens)} tokens are for training, where "
                f"context_length {context_length} needs at least {context_length + 1}, and {len(self.val.tokens)} are "
                "for validation, which needs 2"
            )

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return self.tokenizer.vocab_size

    @property
    def chars_per_train_token(self) -> float:
        """Characters that a token of the training text stands for, on average."""
        return self.train.characters / len(self.train.tokens)

    @property
    def chars_per_val_token(self) -> float:
        """The same of the validation text, without its first token, which is never a target."""
        first = self.val.tokens[0:1].item()
        return (self.val.characters - self.tokenizer.num_chars(int(first))) / (len(self.val.tokens) - 1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Training windows: batches (B, T + 1), as many as the run has steps, going on where a resumed run stopped."""
        assert self.trainer is not None
        trainer = self.trainer
        seed = torch.initial_seed()  # what seed_everything set
        what = (self.train.tokens, self.context_length, self.batch_size, seed, trainer.global_rank)
        windows = RandomWindows(*what) if self.sampling == "random" else ShuffledWindows(*what, trainer.world_size)
        one_pass = -(-len(self.train.tokens) // (self.batch_size * self.context_length * trainer.world_size))
        length = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else one_pass
        seen = trainer.fit_loop.epoch_loop.batch_progress.total  # whose declared class has no `processed`
        return self._loader(windows, BatchNumbers(length, lambda: vars(seen)["processed"]))

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation text in consecutive windows: batches (B, up to T + 1), every rank its share of them.

        Outside training, batches of sliding windows come after them, each with the number of targets to score.
        """
        assert self.trainer is not None
        windows = ConsecutiveWindows(self.val.tokens, self.context_length, self.batch_size)
        if len(windows) < self.trainer.world_size:
            raise ValueError(
                f"{len(windows)} batches of validation text are too few for {self.trainer.world_size} processes: "
                f"give a batch_size below {self.batch_size}, or fewer trainer.devices"
            )
        if self.trainer.state.fn != TrainerFn.FITTING:
            sliding = SlidingWindows(self.val.tokens, self.context_length, self.batch_size, self.stride)
            windows = ConcatDataset[Any]([windows, sliding])
        return self._loader(windows, range(self.trainer.global_rank, len(windows), self.trainer.world_size))

    test_dataloader = val_dataloader  # this text has no third part

    def _loader(self, windows: Dataset[Any], sampler: Sampler[int] | range) -> DataLoader[Any]:
        own = torch.Generator()  # an iterator draws from it when it is made; training's stream must not move
        return DataLoader(windows, batch_size=None, sampler=sampler, num_workers=self.num_workers, generator=own)


def data_of(trainer: Trainer) -> TextDataModule:
    """The datamodule that a Trainer uses, which its class does not declare."""
    data: Any = getattr(trainer, "datamodule", None)
    assert isinstance(data, TextDataModule)
    return data


class BatchNumbers(Sampler[int]):
    """The numbers of the batches of one epoch, from the first that training has not seen yet.

    Args:
        length: Batches in an epoch.
        done: Says how many batches training has seen, over all epochs.
    """

    def __init__(self, length: int, done: Callable[[], int]) -> None:
        self.length = length
        self.done = done

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        done = self.done()
        return iter(range(done, done - done % self.length + self.length))
