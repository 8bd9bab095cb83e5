"""Memorization check: the longest verbatim match between generated text and the training text."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

BLOCK = 8  # bytes of a block, which NumPy compares as one integer
MIN_MATCH_BYTES = 2 * BLOCK - 1  # a match of this length contains an aligned block, at any offset


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


class VerbatimIndex:
    """Index of a text, for the longest substring that a sample has in common with it.

    The text is cut into aligned blocks of 8 bytes, which are sorted once. Common runs of n + m blocks are pairs of a
    common run of n blocks and one of m blocks: doubling, then binary search, find the longest. Around it, the bytes are
    compared.

    Args:
        text: Text in UTF-8.

    Source: Karp, Miller and Rosenberg 1972, "Rapid Identification of Repeated Patterns in Strings, Trees and Arrays".
    """

    def __init__(self, text: bytes) -> None:
        self._text = np.frombuffer(text, np.uint8)
        blocks = np.frombuffer(text, np.uint64, len(text) // BLOCK)
        self._order = np.argsort(blocks, kind="stable")
        self._sorted = blocks[self._order]

    def longest_match(self, sample: str) -> str:
        """Return the longest substring of a sample that occurs verbatim in the text.

        Args:
            sample: Generated text.

        Returns:
            The match, or an empty string if it is shorter than 15 bytes.
        """
        content = np.frombuffer(sample.encode(), np.uint8)
        runs = self._longest_runs(content) if len(content) >= MIN_MATCH_BYTES else None
        if runs is None:
            return ""
        rows, starts = _surroundings(content, runs.starts, runs.names, runs.length, outside=-1)
        text_rows, _ = _surroundings(self._text, runs.text_blocks * BLOCK, runs.text_names, runs.length, outside=-2)
        pairs, text_pairs = _equal(rows[:, 0], text_rows[:, 0])
        same = rows[pairs] == text_rows[text_pairs]
        before = same[:, 1:BLOCK].cumprod(axis=1).sum(axis=1)
        after = same[:, BLOCK:].cumprod(axis=1).sum(axis=1)
        best = np.argmax(before + after)
        begin, length = starts[pairs[best]] - before[best], before[best] + runs.length * BLOCK + after[best]
        match = content[begin : begin + length].tobytes()
        return match.decode(errors="ignore") if length >= MIN_MATCH_BYTES else ""

    def _longest_runs(self, content: NDArray[np.uint8]) -> Runs | None:
        """Return the common runs of one block less than the longest, but at least one; None if there are none."""
        windows = np.lib.stride_tricks.sliding_window_view(content, BLOCK).copy().view(np.uint64)[:, 0]
        unique, names = np.unique(windows, return_inverse=True)
        pairs, places = _equal(unique, self._sorted)
        if not len(pairs):
            return None
        starts = np.flatnonzero(np.isin(names, pairs))
        powers = [Runs(1, starts, names[starts], self._order[places], pairs)]
        while (longer := _joined(powers[-1], powers[-1])) is not None:
            powers.append(longer)
        longest = powers[-1]
        for runs in reversed(powers[:-1]):
            longest = _joined(longest, runs) or longest
        num_blocks = max(longest.length - 1, 1)
        found = None
        for runs in reversed(powers):
            if found is None:
                found = runs if runs.length <= num_blocks else None
            elif found.length + runs.length <= num_blocks:
                found = _joined(found, runs)
        return found


def _joined(first: Runs, second: Runs) -> Runs | None:
    """Return the common runs that consist of a first and a second one; None if there are none."""
    names = _names_at(first.starts + first.length * BLOCK, second.starts, second.names)
    text_names = _names_at(first.text_blocks + first.length, second.text_blocks, second.text_names)
    keep, text_keep = names >= 0, text_names >= 0
    num_names = max(int(second.names.max()), int(second.text_names.max())) + 1
    pairs = first.names[keep] * num_names + names[keep]
    text_pairs = first.text_names[text_keep] * num_names + text_names[text_keep]
    common = np.intersect1d(pairs, text_pairs)
    if not len(common):
        return None
    is_common, text_is_common = np.isin(pairs, common), np.isin(text_pairs, common)
    return Runs(
        first.length + second.length,
        first.starts[keep][is_common],
        np.searchsorted(common, pairs[is_common]),
        first.text_blocks[text_keep][text_is_common],
        np.searchsorted(common, text_pairs[text_is_common]),
    )


def _names_at(places: Integers, starts: Integers, names: Integers) -> Integers:
    """Return the names of the runs that start at some places, -1 where none does."""
    at = np.full(max(int(places.max()), int(starts.max())) + 1, -1)
    at[starts] = names
    return at[places]


def _equal(values: NDArray[Any], sorted_values: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the indices of all pairs of equal elements of an array and a sorted one."""
    first, last = (np.searchsorted(sorted_values, values, side) for side in ("left", "right"))
    counts = last - first
    places = np.repeat(first - np.cumsum(counts) + counts, counts)  # minus the number of pairs before
    places += np.arange(len(places))
    return np.repeat(np.arange(len(values)), counts), places


def _surroundings(
    content: NDArray[np.uint8], starts: Integers, names: Integers, length: int, outside: int
) -> tuple[Integers, Integers]:
    """Return the different surroundings of runs: a name, the 7 bytes before (the nearest first), and the 15 after.

    Args:
        content: Bytes of the sample or the text.
        starts: (R,) first byte of each run.
        names: (R,) name of each run.
        length: Blocks per run.
        outside: Value of the bytes before the beginning and after the end.

    Returns:
        (N, 1 + 7 + 15) different surroundings, and (N,) the start of a run that has each of them.
    """
    offsets = np.concatenate([-np.arange(1, BLOCK), length * BLOCK + np.arange(2 * BLOCK - 1)])
    places = starts[:, None] + offsets
    inside = (places >= 0) & (places < len(content))
    values = np.where(inside, content[np.where(inside, places, 0)], outside)
    rows = np.column_stack([names, values]).astype(np.int32)
    # rows as values of bytes, which are compared faster than rows of numbers, but not in the order of the names
    _, index = np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}")[:, 0], return_index=True)
    index = index[np.argsort(names[index], kind="stable")]
    return rows[index].astype(np.int64), starts[index]
