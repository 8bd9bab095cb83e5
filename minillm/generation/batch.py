"""Continuous batching: sequences join and leave the batch between decoding steps."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable

import numpy as np

from minillm.generation.decoder import InferenceDecoder
from minillm.generation.generate import overflow_length
from minillm.generation.numpy_kv_cache import Array
from minillm.generation.sampling import sample
from minillm.generation.sampling_params import SamplingParams

MAX_PREFILLS_PER_STEP = 4  # a prefill takes longer than a decoding step, and delays the other sequences


class Sequence:
    """A sequence being generated.

    Args:
        prompt: Token ids, at least 1.
        settings: Sampling parameters; the caller applies `max_new_tokens` and `stop`.
    """

    def __init__(self, prompt: Iterable[int], settings: SamplingParams) -> None:
        self.window = list(prompt)  # the decoder's input, with the newest token last
        self.rng = random.Random(settings.seed)
        self.sampling = settings.temperature, settings.top_k, settings.top_p
        self.logits: Array = np.empty(0)  # (V,), from which the newest token was sampled


class ContinuousBatch:
    """A changing set of sequences that each grow by one token per step.

    A sequence gets the tokens that `generate_ids` gives it alone, up to rounding errors in the logits.

    Args:
        decoder: The model.
        capacity: Maximum number of sequences.
    """

    def __init__(self, decoder: InferenceDecoder, capacity: int) -> None:
        self.decoder = decoder
        self.capacity = capacity
        self._cache = decoder.new_ragged_cache(capacity)
        self._running: list[Sequence] = []  # in the order of the cache
        self._waiting: deque[Sequence] = deque()  # for their prefill

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self._running) + len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Add a sequence; the batch must be below its capacity."""
        assert len(self) < self.capacity
        sequence.window = sequence.window[-self.decoder.config.context_length :]
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        else:
            index = self._running.index(sequence)
            self._cache.remove(index)
            self._running[index] = self._running[-1]
            self._running.pop()

    def preempt(self, sequence: Sequence) -> None:
        """Remove a sequence that is added again later, and then gets the tokens that it would have got now."""
        self.remove(sequence)
        if len(sequence.window) > self.decoder.config.context_length:
            sequence.window = sequence.window[-overflow_length(self.decoder) :]

    def step(self) -> list[Sequence]:
        """Generate one token for every sequence, except those that still wait for their prefill.

        Returns:
            The sequences that have a new token, the last one of their `window`.
        """
        for sequence in [s for s in self._running if len(s.window) > self.decoder.config.context_length]:
            self.preempt(sequence)
            self._waiting.append(sequence)
        logits: list[Array] = []
        if self._running:
            newest = np.array([sequence.window[-1:] for sequence in self._running])
            logits.append(self.decoder(newest, self._cache))
        for _ in range(min(len(self._waiting), MAX_PREFILLS_PER_STEP)):
            sequence, cache = self._waiting.popleft(), self.decoder.new_cache(1)
            logits.append(self.decoder(np.array([sequence.window]), cache))
            self._cache.append(cache)
            self._running.append(sequence)
        self._append_samples(np.concatenate(logits))
        return list(self._running)

    def _append_samples(self, logits: Array) -> None:
        """Sample the next token of each running sequence from its logits (B, V)."""
        groups: dict[tuple[float, int | None, float | None], list[int]] = defaultdict(list)
        for index, sequence in enumerate(self._running):
            groups[sequence.sampling].append(index)
        for sampling, indices in groups.items():
            group_logits = logits if len(groups) == 1 else logits[indices]
            uniform = np.array([self._running[index].rng.random() for index in indices])
            for index, token in zip(indices, sample(group_logits, uniform, *sampling).tolist(), strict=True):
                sequence = self._running[index]
                sequence.window.append(token)
                sequence.logits = logits[index]
