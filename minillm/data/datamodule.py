"""The LightningDataModule: text to batches of token ids."""

from collections.abc import Callable, Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from minillm.data.corpus import load_text
from minillm.data.windows import ConsecutiveWindows, RandomWindows
from minillm.tokenizer import CharTokenizer

TRAIN_FRACTION = 0.9  # the first 90 % of the characters; the rest is for validation


class TextDataModule(LightningDataModule):
    """Serve random windows of a text for training, and the rest of the text, whole, for validation.

    Args:
        corpus: `tinyshakespeare`, `shakespeare`, or the path of a UTF-8 text file or of a folder of them.
        context_length: Tokens the model looks at together.
        batch_size: Windows in a batch.
        num_workers: Processes that prepare batches; with 0 the training process does, in 0.1 ms a batch.
        tokenizer: How text becomes tokens; by default the characters that the corpus holds.

    Raises:
        ValueError: A number is out of range, or the corpus cannot be had, or is too short for one window of training
            and one token of validation, or has a character that the given tokenizer does not know.
    """

    def __init__(
        self,
        corpus: str = "tinyshakespeare",
        context_length: int = 64,
        batch_size: int = 32,
        num_workers: int = 0,
        tokenizer: CharTokenizer | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("context_length", context_length, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.save_hyperparameters("corpus", "batch_size", logger=False)
        self.context_length = context_length
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.text = load_text(corpus)
        split = int(TRAIN_FRACTION * len(self.text))
        if split <= context_length or len(self.text) - split < 2:
            raise ValueError(
                f"corpus {corpus!r} is too short: of its {len(self.text)} characters {split} are for training, "
                f"where context_length {context_length} needs at least {context_length + 1}, and validation needs 2"
            )
        self.tokenizer = tokenizer or CharTokenizer.from_text(self.text)
        ids = torch.tensor(self.tokenizer.encode(self.text))
        self.train_tokens, self.val_tokens = ids[:split], ids[split:]

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return self.tokenizer.vocab_size

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Random windows: batches (B, T + 1), as many as the run has steps, going on where a resumed run stopped."""
        assert self.trainer is not None
        trainer = self.trainer
        seed = torch.initial_seed()  # what seed_everything set
        windows = RandomWindows(self.train_tokens, self.context_length, self.batch_size, seed, trainer.global_rank)
        one_pass = -(-len(self.train_tokens) // (self.batch_size * self.context_length * trainer.world_size))
        length = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else one_pass
        seen = trainer.fit_loop.epoch_loop.batch_progress.total
        return self._loader(windows, BatchNumbers(length, lambda: seen.processed))  # pyright: ignore[reportAttributeAccessIssue]

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The validation text in consecutive windows: batches (B, up to T + 1), every rank its share of them."""
        assert self.trainer is not None
        windows = ConsecutiveWindows(self.val_tokens, self.context_length, self.batch_size)
        if len(windows) < self.trainer.world_size:
            raise ValueError(
                f"{len(windows)} batches of validation text are too few for {self.trainer.world_size} processes: "
                f"give a batch_size below {self.batch_size}, or fewer trainer.devices"
            )
        return self._loader(windows, range(self.trainer.global_rank, len(windows), self.trainer.world_size))

    test_dataloader = val_dataloader  # this text has no third part

    def _loader(self, windows: RandomWindows | ConsecutiveWindows, sampler: Sampler[int] | range) -> DataLoader[Tensor]:
        own = torch.Generator()  # an iterator draws from it when it is made; training's stream must not move
        return DataLoader(windows, batch_size=None, sampler=sampler, num_workers=self.num_workers, generator=own)


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
