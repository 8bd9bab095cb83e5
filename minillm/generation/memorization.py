"""Memorization check: verbatim matches between generated text and the training text."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Integers = NDArray[np.int64]

BLOCK = 8  # bytes of a block, which NumPy compares as one integer
MIN_MATCH_BYTES = 2 * BLOCK - 1  # a match of this length contains an aligned block, at any offset
HASH_BITS = 17
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: multiplicative hashing
MAX_PAIRS = 2**16  # of equal runs; above, only those with different surroundings are compared


class Runs(NamedTuple):
    """Runs of consecutive blocks that a sample and a text have in common; equal runs have the same name, a number.

    Args:
        length: Blocks per run.
        starts: First byte of each run in the sample.
        names: Name of each of them.
        text_blocks: First block of each run in the text.
        text_names: Name of each of them.
    """

    length: int
    starts: Integers
    names: Integers
    text_blocks: Integers
    text_names: Integers


class Match(NamedTuple):
    """Substring of a sample that occurs verbatim in the text.

    Args:
        start: Its first character in the sample.
        text: The substring.
        line: Line of the text in which it begins, from 1.
    """

    start: int
    text: str
    line: int


class VerbatimIndex:
    """Index of a text, for the longest substring that a sample has in common with it.

    The text is cut into aligned blocks of 8 bytes, which are hashed once. Common runs of n + m blocks are pairs of a
    common run of n blocks and one of m blocks: doubling, then binary search, find the longest. Around it, the bytes are
    compared.

    Args:
        text: Text in UTF-8.

    Source: Karp, Miller and Rosenberg 1972, "Rapid Identification of Repeated Patterns in Strings, Trees and Arrays".
    """

    def __init__(self, text: bytes) -> None:
        self._padded_text = _padded(np.frombuffer(text, np.uint8), 0xFF)
        self._blocks = np.frombuffer(text, np.uint64, len(text) // BLOCK)
        self._hashes = _hashes(self._blocks)

    def longest_match(self, sample: str) -> str:
        """Return the longest substring of a sample that occurs verbatim in the text.

        Args:
            sample: Generated text.

        Returns:
            The match, or an empty string if it is shorter than 15 bytes.
        """
        content = np.frombuffer(sample.encode(), np.uint8)
        start, length, _ = self._longest(content, self._candidates(content))
        return content[start : start + length].tobytes().decode()

    def matches(self, sample: str, min_length: int = MIN_MATCH_BYTES) -> list[Match]:
        """Return matches that do not overlap: the longest one, the longest ones before and after it, and so on.

        Args:
            sample: Generated text.
            min_length: Minimum length of a match, in characters; at least 15.

        Returns:
            The matches, in the order of the sample.
        """
        content = np.frombuffer(sample.encode(), np.uint8)
        candidates = self._candidates(content)
        found: list[Match] = []
        parts = [(0, len(content))]
        while parts:
            begin, end = parts.pop()
            offset, length, place = self._longest(content[begin:end], candidates)
            if length < min_length:  # a character has at least one byte
                continue
            start = begin + offset
            parts += [(begin, start), (start + length, end)]
            text = content[start : start + length].tobytes().decode()
            if len(text) >= min_length:
                line = int(np.searchsorted(self._line_ends, place)) + 1
                found.append(Match(len(content[:start].tobytes().decode()), text, line))
        return sorted(found)

    @cached_property
    def _line_ends(self) -> Integers:
        return np.flatnonzero(self._padded_text == ord("\n")) - BLOCK

    def _candidates(self, content: NDArray[np.uint8]) -> Integers:
        """Return the blocks of the text that the sample may contain: those with the hash of a part of it."""
        is_hash = np.zeros(2**HASH_BITS, bool)
        is_hash[_hashes(_windows(content))] = True
        return np.flatnonzero(is_hash[self._hashes])

    def _longest(self, content: NDArray[np.uint8], candidates: Integers) -> tuple[int, int, int]:
        """Return start, length and place in the text, in bytes, of the longest match; (0, 0, 0) if it is short."""
        longest = 0, 0, 0
        for runs in self._longest_runs(_windows(content), candidates):
            if longest[1] < runs.length * BLOCK + 2 * (BLOCK - 1):  # the longest match around a run
                longest = max(longest, self._extend(content, runs), key=lambda match: match[1])
        start, length, place = longest
        match = content[start : start + length].tobytes()
        whole = match.decode(errors="ignore").encode()  # without incomplete characters at its ends
        skipped = match.find(whole)
        return (start + skipped, len(whole), place + skipped) if len(whole) >= MIN_MATCH_BYTES else (0, 0, 0)

    def _longest_runs(self, windows: NDArray[np.uint64], candidates: Integers) -> Iterator[Runs]:
        """Yield the common runs of the most blocks, and those of one block less: they can be in a longer match."""
        longest = _common(1, np.arange(len(windows)), windows, candidates, self._blocks[candidates])
        powers: list[Runs] = []
        while longest is not None:
            powers.append(longest)
            longest = _joined(longest, longest)
        if not powers:
            return
        longest = powers[-1]
        for runs in reversed(powers[:-1]):
            longest = _joined(longest, runs) or longest
        yield longest
        shorter = None
        for runs in reversed(powers):
            if shorter is None:
                shorter = runs if runs.length < longest.length else None
            elif shorter.length + runs.length < longest.length:
                shorter = _joined(shorter, runs)
        if shorter is not None:
            yield shorter

    def _extend(self, content: NDArray[np.uint8], runs: Runs) -> tuple[int, int, int]:
        """Return the longest match that contains one of the runs and at most 7 bytes before it."""
        rows = _surroundings(_padded(content, 0xFE), runs.starts, runs.length)
        text_rows = _surroundings(self._padded_text, runs.text_blocks * BLOCK, runs.length)
        pairs, text_pairs = _pairs(runs.names, rows, runs.text_names, text_rows)
        differs = rows[pairs] != text_rows[text_pairs]
        # 0 where all bytes are equal, which is too few, but then the match has an earlier run or is not the longest
        before, after = differs[:, :BLOCK].argmax(axis=1), differs[:, BLOCK:].argmax(axis=1)
        best = np.argmax(before + after)
        start, place = runs.starts[pairs[best]], runs.text_blocks[text_pairs[best]] * BLOCK
        length = before[best] + runs.length * BLOCK + after[best]
        return int(start - before[best]), int(length), int(place - before[best])


def _windows(content: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the 8 bytes from each place on as an integer."""
    if len(content) < BLOCK:
        return np.empty(0, np.uint64)
    return sliding_window_view(content, BLOCK).copy().view(np.uint64)[:, 0]


def _hashes(blocks: NDArray[np.uint64]) -> Integers:
    return (blocks * HASH_FACTOR >> np.uint64(64 - HASH_BITS)).astype(np.intp)


def _common(
    length: int, starts: Integers, keys: NDArray[Any], text_blocks: Integers, text_keys: NDArray[Any]
) -> Runs | None:
    """Return the runs whose keys are in the sample and in the text; None if there are none.

    Args:
        length: Blocks per run.
        starts: First byte of each run in the sample.
        keys: Numbers that are equal for equal runs.
        text_blocks: First block of each run in the text.
        text_keys: Key of each of them.
    """
    if not len(keys):
        return None
    unique, names = np.unique(keys, return_inverse=True)
    text_names = np.searchsorted(unique[:-1], text_keys)
    kept = unique[text_names] == text_keys
    text_names = text_names[kept]
    is_common = np.zeros(len(unique), bool)
    is_common[text_names] = True
    common = is_common[names]
    return Runs(length, starts[common], names[common], text_blocks[kept], text_names) if kept.any() else None


def _joined(first: Runs, second: Runs) -> Runs | None:
    """Return the common runs that consist of a first and a second one; None if there are none."""
    found, names = _names_at(first.starts + first.length * BLOCK, second.starts, second.names)
    text_found, text_names = _names_at(first.text_blocks + first.length, second.text_blocks, second.text_names)
    if not len(names):
        return None
    num_names = max(int(second.names.max()), int(second.text_names.max())) + 1
    return _common(
        first.length + second.length,
        first.starts[found],
        first.names[found] * num_names + names,
        first.text_blocks[text_found],
        first.text_names[text_found] * num_names + text_names,
    )


def _names_at(places: Integers, starts: Integers, names: Integers) -> tuple[NDArray[np.bool_], Integers]:
    """Return at which places a run starts, and the names of these runs; places and starts ascend."""
    indices = np.searchsorted(starts[:-1], places)
    found = starts[indices] == places
    return found, names[indices[found]]


def _padded(content: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    return np.pad(content, (BLOCK, 2 * BLOCK), constant_values=value)  # 0xFE and 0xFF are not in UTF-8


def _surroundings(padded: NDArray[np.uint8], starts: Integers, length: int) -> NDArray[np.uint8]:
    """Return the (N, 24) bytes around runs: the 8 before, the nearest first, and the 16 after.

    Args:
        padded: Bytes of the sample or the text, padded with 8 before and 16 after.
        starts: (N,) first byte of each run, without padding.
        length: Blocks per run.
    """
    before = sliding_window_view(padded, BLOCK)[starts]
    after = sliding_window_view(padded, 2 * BLOCK)[starts + (1 + length) * BLOCK]
    return np.concatenate([before[:, ::-1], after], axis=1)


def _pairs(
    names: Integers, rows: NDArray[np.uint8], text_names: Integers, text_rows: NDArray[np.uint8]
) -> tuple[Integers, Integers]:
    """Return the indices of all pairs of equal runs; if they are many, only of those with different surroundings."""
    num_names = int(names.max()) + 1
    counts = np.bincount(text_names, minlength=num_names)
    chosen, text_chosen = np.arange(len(names)), np.argsort(text_names)
    if counts[names].sum() > MAX_PAIRS:
        chosen, text_chosen = _distinct(names, rows), _distinct(text_names, text_rows)
        counts = np.bincount(text_names[text_chosen], minlength=num_names)
    repeats: Integers = counts[names[chosen]]
    ends = counts.cumsum()[names[chosen]]  # of the runs in the text that have the same name, which is their order
    places = np.arange(int(repeats.sum())) + np.repeat(ends - repeats.cumsum(), repeats)
    return np.repeat(chosen, repeats), text_chosen[places]


def _distinct(names: Integers, rows: NDArray[np.uint8]) -> Integers:
    """Return the indices of runs that differ in their name or surroundings, in the order of the names."""
    keys = np.column_stack([names.astype(">u8").view(np.uint8).reshape(len(names), -1), rows])
    return np.unique(keys.view(f"V{keys.shape[1]}")[:, 0], return_index=True)[1]
