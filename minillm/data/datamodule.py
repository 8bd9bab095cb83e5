"""LightningDataModule that turns a text corpus into batches of token ids."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from minillm.data.prepare import prepare
from minillm.data.text_files import DocumentMode, TextFormat
from minillm.data.windows import ConsecutiveWindows, RandomWindows, ShuffledWindows, SlidingWindows, StepPartition
from minillm.tokenizer import Tokenizer


class TextDataModule(LightningDataModule):
    """Data module of a text: batches of windows for training, and the whole validation split in consecutive windows.

    Args:
        corpus: `tinyshakespeare`, `shakespeare`, `other_plays`, or the path of a text file, folder or glob pattern.
        val_corpus: Text to validate on. By default this is the last 10 % of `corpus`, which is then excluded from
            training.
        context_length: Maximum number of tokens that the model attends to.
        batch_size: Windows per optimizer step, over all processes and accumulated batches.
        sampling: `random` draws each window independently; `shuffled` visits non-overlapping windows in random order,
            each once per epoch.
        stride: Tokens between the starts of consecutive windows for `val_loss_sliding`, which `validate` and `test`
            measure; by default a quarter of context_length.
        num_workers: Worker processes that load batches; 0 loads them in the training process, in 0.1 ms per batch.
        vocab_size: Vocabulary size of a byte-pair tokenizer trained on the corpus; by default each character is a
            token.
        tokenizer: Existing tokenizer to use instead.
        grow_tokenizer: Whether to extend the existing tokenizer with the characters of the corpus that it lacks.
        encoding: Character encoding of the files, by its name in Python; a byte order mark takes precedence.
        text_field: Field of the records of JSON Lines files that holds the text.
        documents: `file` or `line` makes each file or each line a document, and each record of JSON Lines in both
            cases: an end-of-text token separates documents, and ends generated text.

    Raises:
        ValueError: A number is out of range; the corpus cannot be read; it is too short for this vocab_size, or for
            one training window and one validation target; or the existing tokenizer lacks one of its characters.
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
        encoding: str = "utf-8",
        text_field: str = "text",
        documents: DocumentMode = "none",
    ) -> None:
        super().__init__()
        self.stride = max(context_length // 4, 1) if stride is None else stride
        _check_range("context_length", context_length, 1)
        _check_range("batch_size", batch_size, 1)
        _check_range("stride", self.stride, 1, context_length)
        _check_range("num_workers", num_workers, 0)
        text_format = TextFormat(encoding, text_field, documents)
        self.save_hyperparameters("corpus", "val_corpus", *asdict(text_format), logger=False)
        self.save_hyperparameters("batch_size", "sampling", "vocab_size", logger=False)
        self.context_length = context_length
        self.batch_size = batch_size
        self.sampling = sampling
        self.num_workers = num_workers
        prepared = prepare(corpus, tokenizer, vocab_size, grow_tokenizer, text_format)
        self.tokenizer = prepared.tokenizer
        self.train, self.val = prepared.train, prepared.val
        self.seed = training_seed()
        self.text_sha256 = {"corpus": prepared.sha256}
        warnings = [f"corpus {corpus!r}: {message}" for message in prepared.warnings]
        if val_corpus is not None:
            validation = prepare(val_corpus, prepared.tokenizer, text_format=text_format)
            self.train, self.val = prepared.whole, validation.whole
            self.text_sha256["val_corpus"] = validation.sha256
            warnings += [f"val_corpus {val_corpus!r}: {message}" for message in validation.warnings]
        for message in warnings:
            rank_zero_warn(message)
        self.hparams["text_sha256"] = self.text_sha256  # to notice that the text behind a name has changed
        if len(self.train.tokens) <= context_length or len(self.val.tokens) < 2:
            raise ValueError(
                f"corpus {corpus!r} is too short: {len(self.train.tokens)} training tokens and {len(self.val.tokens)} "
                f"validation tokens, but context_length {context_length} requires at least {context_length + 1} and 2: "
                "use a longer text or a smaller context_length"
            )

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
        return self.tokenizer.vocab_size

    @property
    def chars_per_train_token(self) -> float:
        """Average number of characters per token of the training split."""
        return self.train.num_chars / len(self.train.tokens)

    @property
    def chars_per_val_token(self) -> float:
        """The same for the validation split, without its first token, which is never a target."""
        first = self.val.tokens[0:1].item()
        return (self.val.num_chars - self.tokenizer.num_chars(int(first))) / (len(self.val.tokens) - 1)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which about as many tokens are trained on as the training split has."""
        return -(-len(self.train.tokens) // (self.batch_size * self.context_length))

    def setup(self, stage: str) -> None:
        """Take the seed of the training windows, in all processes that of the first."""
        assert self.trainer is not None
        self.seed = self.trainer.strategy.broadcast(training_seed())

    @property
    def partition(self) -> StepPartition:
        """Partition of the windows of a step among the processes and accumulated batches of the Trainer."""
        assert self.trainer is not None
        trainer = self.trainer
        return StepPartition(self.batch_size, trainer.world_size, trainer.accumulate_grad_batches, trainer.global_rank)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return batches (B, T + 1) of training windows; a resumed run starts at the next batch.

        With `max_steps`, one epoch is the whole run; without it, about one pass over the training split, in whole
        optimizer steps.
        """
        assert self.trainer is not None
        trainer, partition = self.trainer, self.partition
        new_windows = RandomWindows if self.sampling == "random" else ShuffledWindows
        windows = new_windows(self.train.tokens, self.context_length, partition, self.seed)
        length = partition.num_batches * (trainer.max_steps if trainer.max_steps > 0 else self.steps_per_epoch)
        progress = trainer.fit_loop.epoch_loop.batch_progress.total  # its declared class lacks `processed`
        return self._loader(windows, BatchIndexSampler(length, lambda: vars(progress)["processed"]))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches (B, up to T + 1) of consecutive windows of the validation split, sharded over the ranks.

        Outside training, batches of sliding windows follow, each with its number of targets to score.
        """
        assert self.trainer is not None
        batch_size = self.partition.part_size
        windows = ConsecutiveWindows(self.val.tokens, self.context_length, batch_size)
        if len(windows) < self.trainer.world_size:
            raise ValueError(
                f"{len(windows)} validation batches are too few for {self.trainer.world_size} processes: "
                f"use a batch_size below {self.batch_size} or fewer trainer.devices"
            )
        if self.trainer.state.fn != TrainerFn.FITTING:
            sliding = SlidingWindows(self.val.tokens, self.context_length, batch_size, self.stride)
            windows = ConcatDataset[Any]([windows, sliding])
        return self._loader(windows, range(self.trainer.global_rank, len(windows), self.trainer.world_size))

    test_dataloader = val_dataloader  # there is no separate test split

    def _loader(self, windows: Dataset[Any], sampler: Sampler[int] | range) -> DataLoader[Any]:
        generator = torch.Generator()  # a new iterator draws a seed, which must not advance the global RNG
        return DataLoader(windows, batch_size=None, sampler=sampler, num_workers=self.num_workers, generator=generator)


def _check_range(name: str, value: int, minimum: int, maximum: int | None = None) -> None:
    if value < minimum or (maximum is not None and value > maximum):
        bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ValueError(f"{name} must be {bounds}, got {value}")


def get_datamodule(trainer: Trainer) -> TextDataModule:
    """Return the datamodule of a Trainer, an attribute that its class does not declare.

    Raises:
        TypeError: It is not a TextDataModule.
    """
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(data, TextDataModule):
        raise TypeError(f"LanguageModel needs datamodule=TextDataModule(...) with its tokenizer, got {data!r}")
    return data


def training_seed() -> int:
    """Return the seed that `seed_everything` set, or else 32 bits of a random one."""
    return torch.initial_seed() % 2**32


class BatchIndexSampler(Sampler[int]):
    """Indices of the batches of one epoch, starting at the first batch not yet trained on.

    Args:
        length: Batches per epoch.
        num_processed: Returns the number of batches trained on so far, over all epochs.
    """

    def __init__(self, length: int, num_processed: Callable[[], int]) -> None:
        self.length = length
        self.num_processed = num_processed

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        start = self.num_processed()
        return iter(range(start, start - start % self.length + self.length))
