"""Batches of windows: random, shuffled, consecutive and sliding."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from minillm.data.token_file import TokenFile

Tokens = Tensor | TokenFile


@dataclass(frozen=True)
class StepPartition:
    """Partition of the windows of an optimizer step among processes and accumulated batches.

    The windows themselves do not depend on it, so that any number of processes trains on the same ones.

    Args:
        batch_size: Windows of a step, B.
        num_processes: Number of processes.
        num_batches: Batches that each process accumulates per step.
        rank: Rank of this process.

    Raises:
        ValueError: The number of processes times that of batches does not divide B.
    """

    batch_size: int
    num_processes: int = 1
    num_batches: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        num_parts = self.num_processes * self.num_batches
        if self.batch_size % num_parts:
            above = self.batch_size - self.batch_size % num_parts + num_parts
            near = f"{above - num_parts} or {above}" if self.batch_size > num_parts else f"{above}"
            raise ValueError(
                f"data.batch_size {self.batch_size} must be divisible by {num_parts} = {self.num_processes} x "
                f"{self.num_batches} (processes x accumulated batches), such as {near}"
            )

    @property
    def part_size(self) -> int:
        """Windows of one batch of one process."""
        return self.batch_size // (self.num_processes * self.num_batches)

    def locate(self, n: int) -> tuple[int, int]:
        """Return the step of batch n of this process, and the index of its first window among those of the step."""
        step, batch = divmod(n, self.num_batches)
        return step, (batch * self.num_processes + self.rank) * self.part_size


class RandomWindows(Dataset[Tensor]):
    """Batches of random windows; those of step s are a pure function of (seed, s, windows of a step).

    Philox is a counter-based RNG: training can resume at any step without saved state.

    Args:
        tokens: (N,) token ids; a tensor, or an object indexed like one.
        context_length: Maximum number of tokens that the model attends to, T; a window has one more, for the targets.
        partition: The windows of a step, and those of this process among them.
        seed: Any int, of which the lowest 64 bits are used.

    Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
    """

    def __init__(self, tokens: Tokens, context_length: int, partition: StepPartition, seed: int) -> None:
        self.tokens = tokens
        self.partition = partition
        self.key = np.array([seed % 2**64, 0], dtype=np.uint64)
        self.num_starts = len(tokens) - context_length
        self.offsets = torch.arange(context_length + 1)

    def __getitem__(self, n: int) -> Tensor:
        """Return batch n of this process: (part_size, T + 1) token ids."""
        step, first = self.partition.locate(n)
        draws = np.random.Philox(key=self.key, counter=[0, step, 0, 0]).random_raw(self.partition.batch_size)
        starts = torch.from_numpy((draws % self.num_starts).astype(np.int64))[first : first + self.partition.part_size]
        return self.tokens[starts[:, None] + self.offsets]


class ShuffledWindows(Dataset[Tensor]):
    """Batches of non-overlapping windows, shuffled every epoch; a pure function of (seed, s, windows of a step).

    In an epoch, each token is a target at most once; fewer than 2T tokens at the ends of the text are never targets.
    The offset of the first window is also drawn per epoch, so that window boundaries vary.

    Args:
        tokens, context_length, partition, seed: As for `RandomWindows`.
    """

    def __init__(self, tokens: Tokens, context_length: int, partition: StepPartition, seed: int) -> None:
        self.tokens = tokens
        self.context_length = context_length
        self.partition = partition
        self.seed = seed % 2**64
        self.windows_per_epoch = max((len(tokens) - context_length) // context_length, 1)
        self.offsets = torch.arange(context_length + 1)
        self._starts = lru_cache(maxsize=2)(self._draw_starts)  # a batch spans two epochs at most, if they are not tiny

    def __getitem__(self, n: int) -> Tensor:
        """Return batch n of this process: (part_size, T + 1) token ids."""
        step, offset = self.partition.locate(n)
        first = step * self.partition.batch_size + offset
        starts = [
            int(self._starts(index // self.windows_per_epoch)[index % self.windows_per_epoch])
            for index in range(first, first + self.partition.part_size)
        ]
        return self.tokens[torch.tensor(starts)[:, None] + self.offsets]

    def _draw_starts(self, epoch: int) -> NDArray[np.int64]:
        """Draw the start positions of the windows of an epoch, in shuffled order."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, 2**63], counter=[0, epoch, 0, 0]))
        num_offsets = len(self.tokens) - self.context_length - (self.windows_per_epoch - 1) * self.context_length
        offset = generator.integers(min(num_offsets, self.context_length))
        return offset + self.context_length * generator.permutation(self.windows_per_epoch)


class ConsecutiveWindows(Dataset[Tensor]):
    """Batches of consecutive windows of the whole text: every token but the first is a target exactly once.

    Args:
        tokens: (N,) token ids; a tensor, or an object indexed like one.
        context_length: Maximum number of tokens that the model attends to, T; a window has one more, which is the first
            of the next window.
        batch_size: Windows per batch, B; the last batch of full windows may have fewer. A shorter window at the end of
            the text is a batch by itself.
    """

    def __init__(self, tokens: Tokens, context_length: int, batch_size: int) -> None:
        self.tokens = tokens
        self.context_length = context_length
        self.batch_size = batch_size
        self.num_full = (len(tokens) - 1) // context_length  # windows of T + 1 tokens

    def __len__(self) -> int:
        return -(-self.num_full // self.batch_size) + ((len(self.tokens) - 1) % self.context_length > 0)

    def __getitem__(self, index: int) -> Tensor:
        """Return a batch: (B, T + 1) token ids."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = min(index * self.batch_size, self.num_full)  # window num_full is the shorter one at the end
        starts = self.context_length * torch.arange(first, max(min(first + self.batch_size, self.num_full), first + 1))
        window_size = min(self.context_length + 1, len(self.tokens) - int(starts[0]))
        return self.tokens[starts[:, None] + torch.arange(window_size)]


class SlidingWindows(Dataset[tuple[Tensor, int]]):
    """Batches of overlapping windows, in which only targets with much context before them are scored.

    Every token but the first is scored exactly once: all targets of the first window, then the last `stride` targets
    of each window.

    Args:
        tokens: (N,) token ids; a tensor, or an object indexed like one.
        context_length: Maximum number of tokens that the model attends to, T; a window has one more, for the targets.
        batch_size: Windows per batch.
        stride: Tokens between the starts of consecutive windows, 1 to T. From the second window on, a target has at
            least T - stride + 1 tokens before it.

    Source: Baevski and Auli 2019, "Adaptive Input Representations for Neural Language Modeling", section 4.
    """

    def __init__(self, tokens: Tokens, context_length: int, batch_size: int, stride: int) -> None:
        self.tokens = tokens
        self.batch_size = batch_size
        self.stride = stride
        self.window_size = min(context_length + 1, len(tokens))
        self.num_strides = (len(tokens) - self.window_size) // stride  # windows after the first with `stride` targets
        self.num_remaining = (len(tokens) - self.window_size) % stride  # targets of the last window, if not 0

    def __len__(self) -> int:
        return 1 + -(-self.num_strides // self.batch_size) + (self.num_remaining > 0)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a batch (B, T + 1) of token ids, and the number of targets to score at the end of each window."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = 1 + (index - 1) * self.batch_size
        if index == 0:
            starts, num_scored = torch.tensor([0]), self.window_size - 1
        elif first <= self.num_strides:
            end = min(first + self.batch_size, self.num_strides + 1)
            starts, num_scored = self.stride * torch.arange(first, end), self.stride
        else:
            starts, num_scored = torch.tensor([len(self.tokens) - self.window_size]), self.num_remaining
        return self.tokens[starts[:, None] + torch.arange(self.window_size)], num_scored
