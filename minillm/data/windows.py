"""Which part of the text is batch n."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class RandomWindows(Dataset[Tensor]):
    """Batch n of random windows, as a pure function of (seed, rank, n).

    The random numbers come from Philox, a generator that is keyed and counted instead of stepped: nothing has to be
    remembered to go on from any n, and no two ranks share a stream.

    Args:
        tokens: (N,) the text.
        context_length: Tokens the model looks at, T; a window has one more, for the targets.
        batch_size: Windows in a batch, B.
        seed: Any int; only its lowest 64 bits count.
        rank: Which of the processes that train together this is.

    Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
    """

    def __init__(self, tokens: Tensor, context_length: int, batch_size: int, seed: int, rank: int = 0) -> None:
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


class ConsecutiveWindows(Dataset[Tensor]):
    """The whole text in consecutive windows: every token but the first is a target exactly once.

    Args:
        tokens: (N,) the text.
        context_length: Tokens the model looks at, T; a window has one more, shared with the next one.
        batch_size: Windows in a batch, B; the last full batch may hold fewer, and a shorter window at the end of the
            text makes a batch of its own.
    """

    def __init__(self, tokens: Tensor, context_length: int, batch_size: int) -> None:
        full, rest = divmod(len(tokens) - 1, context_length)
        self.batches: list[Tensor] = []
        if full:
            self.batches += tokens.unfold(0, context_length + 1, context_length).split(batch_size)
        if rest:
            self.batches.append(tokens[None, full * context_length :])

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor:
        """A batch: (B, T + 1) token ids."""
        return self.batches[index]
