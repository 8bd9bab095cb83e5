"""Texts that are continued together, but come and go each on its own."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable

import numpy as np

from minillm.generation.generate import overflow_length
from minillm.generation.kv_cache import Array, RaggedKVCache
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling import sample
from minillm.generation.sampling_params import SamplingParams

MAX_PREFILLS_PER_STEP = 4  # texts a step that are read (anew) as a whole, which takes longer than a step of the others


class Sequence:
    """A text in the making.

    Args:
        prompt: Token ids, at least 1.
        settings: How to choose; how many tokens to make and when to stop is the caller's business.
    """

    def __init__(self, prompt: Iterable[int], settings: SamplingParams) -> None:
        self.window = list(prompt)  # what the decoder sees, with the newest token at its end
        self.draws = random.Random(settings.seed)
        self.choice = settings.temperature, settings.top_k, settings.top_p
        self.logits: Array = np.empty(0)  # (V,), those that the newest token was chosen by


class ContinuousBatch:
    """A step makes one more token of each text; texts are added and removed between two steps.

    Each becomes what `generate_ids` would make of it alone (but for the last bits of the sums).

    Args:
        decoder: The model.
        capacity: Most texts.
    """

    def __init__(self, decoder: NumpyDecoder, capacity: int) -> None:
        self.decoder = decoder
        self.capacity = capacity
        self._cache = RaggedKVCache(decoder.new_cache(1), capacity)
        self._running: list[Sequence] = []  # in the order of the cache
        self._unread: deque[Sequence] = deque()

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self._running) + len(self._unread)

    def add(self, row: Sequence) -> None:
        """Take in a text; there must be room."""
        assert len(self) < self.capacity
        row.window = row.window[-self.decoder.config.context_length :]
        self._unread.append(row)

    def remove(self, row: Sequence) -> None:
        """Forget a text."""
        if row in self._unread:
            self._unread.remove(row)
        else:
            index = self._running.index(row)
            self._cache.remove(index)
            self._running[index] = self._running[-1]
            self._running.pop()

    def step(self) -> list[Sequence]:
        """Continue every text by a token, except those that still wait to be read.

        Returns:
            The texts that were continued; the last of `window` is the new token.
        """
        for row in [row for row in self._running if len(row.window) > self.decoder.config.context_length]:
            self.remove(row)
            row.window = row.window[-overflow_length(self.decoder) :]
            self._unread.append(row)
        logits: list[Array] = []
        if self._running:
            logits.append(self.decoder(np.array([row.window[-1:] for row in self._running]), self._cache))
        for _ in range(min(len(self._unread), MAX_PREFILLS_PER_STEP)):
            row, cache = self._unread.popleft(), self.decoder.new_cache(1)
            logits.append(self.decoder(np.array([row.window]), cache))
            self._cache.append(cache)
            self._running.append(row)
        self._choose(np.concatenate(logits))
        return list(self._running)

    def _choose(self, logits: Array) -> None:
        """Give each running text its next token, by its scores (B, V)."""
        alike: dict[tuple[float, int | None, float | None], list[int]] = defaultdict(list)
        for index, row in enumerate(self._running):
            alike[row.choice].append(index)
        for choice, indices in alike.items():
            scores = logits if len(alike) == 1 else logits[indices]
            uniform = np.array([self._running[index].draws.random() for index in indices])
            for index, token in zip(indices, sample(scores, uniform, *choice).tolist(), strict=True):
                row = self._running[index]
                row.window.append(token)
                row.logits = logits[index]
