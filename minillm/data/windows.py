"""Which part of the text is batch n."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from minillm.data.token_file import TokenFile

Tokens = Tensor | TokenFile


class RandomWindows(Dataset[Tensor]):
    """Batch n of random windows, as a pure function of (seed, rank, n).

    The random numbers come from Philox, a generator that is keyed and counted instead of stepped: nothing has to be
    remembered to go on from any n, and no two ranks share a stream.

    Args:
        tokens: (N,) the text; a tensor, or anything that is indexed like one.
        context_length: Tokens the model looks at, T; a window has one more, for the targets.
        batch_size: Windows in a batch, B.
        seed: Any int; only its lowest 64 bits count.
        rank: Which of the processes that train together this is.

    Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
    """

    def __init__(self, tokens: Tokens, context_length: int, batch_size: int, seed: int, rank: int = 0) -> None:
        self.tokens = tokens
        self.batch_size = batch_size
        self.key = np.array([seed % 2**64, rank], dtype=np.uint64)
        self.num_starts = len(tokens) - context_length
        self.offsets = torch.arange(context_length + 1)

    def __getitem__(self, n: int) -> Tensor:
        """Batch n: (B, T + 1) token ids."""
        draws = np.random.Philox(key=self.key, counter=[0, n, 0, 0]).random_raw(self.batch_size)
        starts = torch.from_numpy((draws % self.num_starts).astype(np.int64))
        return self.tokens[starts[:, None] + self.offsets]


class ShuffledWindows(Dataset[Tensor]):
    """Batch n of windows that meet nowhere, in an order drawn anew for every pass: also a function of (seed, n) alone.

    In a pass every token is a target at most once, and all but a window's worth at either end are. Where the first
    window begins is drawn anew as well, so that no two passes cut the text in the same places.

    Args:
        tokens, context_length, batch_size, seed, rank: As for `RandomWindows`.
        world_size: How many these are.
    """

    def __init__(
        self, tokens: Tokens, context_length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.tokens = tokens
        self.context_length = context_length
        self.batch_size = batch_size
        self.seed = seed % 2**64
        self.rank, self.world_size = rank, world_size
        self.windows_per_epoch = max((len(tokens) - context_length) // context_length, 1)
        self.offsets = torch.arange(context_length + 1)
        self._order = lru_cache(maxsize=2)(self._draw)  # a batch lies in at most two passes, unless they are tiny

    def __getitem__(self, n: int) -> Tensor:
        """Batch n: (B, T + 1) token ids."""
        first = (n * self.world_size + self.rank) * self.batch_size
        starts = [
            int(self._order(number // self.windows_per_epoch)[number % self.windows_per_epoch])
            for number in range(first, first + self.batch_size)
        ]
        return self.tokens[torch.tensor(starts)[:, None] + self.offsets]

    def _draw(self, number: int) -> NDArray[np.int64]:
        """Where the windows of a pass begin, in their order."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, 2**63], counter=[0, number, 0, 0]))
        spare = len(self.tokens) - self.context_length - (self.windows_per_epoch - 1) * self.context_length
        begin = generator.integers(min(spare, self.context_length))
        return begin + self.context_length * generator.permutation(self.windows_per_epoch)


class ConsecutiveWindows(Dataset[Tensor]):
    """The whole text in consecutive windows: every token but the first is a target exactly once.

    Args:
        tokens: (N,) the text; a tensor, or anything that is indexed like one.
        context_length: Tokens the model looks at, T; a window has one more, shared with the next one.
        batch_size: Windows in a batch, B; the last full batch may hold fewer, and a shorter window at the end of the
            text makes a batch of its own.
    """

    def __init__(self, tokens: Tokens, context_length: int, batch_size: int) -> None:
        self.tokens = tokens
        self.context_length = context_length
        self.batch_size = batch_size
        self.full = (len(tokens) - 1) // context_length

    def __len__(self) -> int:
        return -(-self.full // self.batch_size) + ((len(self.tokens) - 1) % self.context_length > 0)

    def __getitem__(self, index: int) -> Tensor:
        """A batch: (B, T + 1) token ids."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = min(index * self.batch_size, self.full)  # the window after all full ones is the rest
        starts = self.context_length * torch.arange(first, max(min(first + self.batch_size, self.full), first + 1))
        size = min(self.context_length + 1, len(self.tokens) - int(starts[0]))
        return self.tokens[starts[:, None] + torch.arange(size)]


class SlidingWindows(Dataset[tuple[Tensor, int]]):
    """Windows that overlap, so that a target is scored when nearly the whole context stands before it.

    Every token but the first is scored exactly once: all of the first window, and the last `stride` of each later one.

    Args:
        tokens: (N,) the text; a tensor, or anything that is indexed like one.
        context_length: Tokens the model looks at, T; a window has one more, for the targets.
        batch_size: Windows in a batch.
        stride: Tokens from a window to the next, 1 to T; a target has at least T - stride + 1 tokens before it.

    Source: Baevski and Auli 2019, "Adaptive Input Representations for Neural Language Modeling", section 4.
    """

    def __init__(self, tokens: Tokens, context_length: int, batch_size: int, stride: int) -> None:
        self.tokens = tokens
        self.batch_size = batch_size
        self.stride = stride
        self.size = min(context_length + 1, len(tokens))
        self.full = (len(tokens) - self.size) // stride  # windows after the first
        self.rest = (len(tokens) - self.size) % stride

    def __len__(self) -> int:
        return 1 + -(-self.full // self.batch_size) + (self.rest > 0)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A batch (B, T + 1) of token ids, and how many targets to score at the end of each window."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = 1 + (index - 1) * self.batch_size
        if index == 0:
            starts, scored = torch.tensor([0]), self.size - 1
        elif first <= self.full:
            starts, scored = self.stride * torch.arange(first, min(first + self.batch_size, self.full + 1)), self.stride
        else:
            starts, scored = torch.tensor([len(self.tokens) - self.size]), self.rest
        return self.tokens[starts[:, None] + torch.arange(self.size)], scored
