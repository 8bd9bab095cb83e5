"""Writing or reciting: what of a sample stands in the training text, character for character."""

from collections.abc import Iterable

import numpy as np

BLOCK = 8  # bytes
SHORTEST = 2 * BLOCK - 1  # bytes: a run this long holds a whole block, wherever it lies


def longest_verbatim_match(sample: str, text: bytes) -> str:
    """The longest run of a sample that stands in a text.

    The text is cut into blocks of 8 bytes, which are numbers to NumPy; a long run can only be where blocks are that
    stand in the sample as well, and only there is the text read byte by byte.

    Args:
        sample: What was written.
        text: What was learned from, in UTF-8.

    Returns:
        The run; an empty one, if all are shorter than 15 bytes.
    """
    written = sample.encode()
    if len(written) < SHORTEST:
        return ""
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(written, np.uint8), BLOCK)
    blocks = np.frombuffer(text, np.uint64, len(text) // BLOCK)
    places = np.sort(windows.copy().view(np.uint64), axis=None)
    nearest = places[np.minimum(np.searchsorted(places, blocks), len(places) - 1)]
    found = np.flatnonzero(nearest == blocks)
    if not len(found):
        return ""
    runs, longest, automaton = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1), b"", _Substrings(written)
    for run in runs:  # of blocks that follow each other
        around = text[max(run[0] * BLOCK - BLOCK, 0) : (run[-1] + 2) * BLOCK]
        longest = max(longest, automaton.longest_in(around), key=len)
    return longest.decode(errors="ignore") if len(longest) >= SHORTEST else ""


class _Substrings:
    """Every substring of some bytes, as the paths through a graph that is no larger than twice the bytes.

    A state stands for the substrings that end at the same places; its link leads to the longest shorter ones that end
    at more places.

    Source: Blumer et al. 1985, "The smallest automaton recognizing the subwords of a text".
    """

    def __init__(self, content: bytes) -> None:
        self.next: list[dict[int, int]] = [{}]
        self.link, self.length = [-1], [0]
        last = 0
        for byte in content:
            last = self._add(last, byte)

    def longest_in(self, text: Iterable[int]) -> bytes:
        """The longest substring that stands in the text."""
        longest, state, current = b"", 0, bytearray()
        for byte in text:
            while state and byte not in self.next[state]:
                state = self.link[state]
            del current[: max(len(current) - self.length[state], 0)]
            if byte in self.next[state]:
                state = self.next[state][byte]
                current.append(byte)
            if len(current) > len(longest):
                longest = bytes(current)
        return longest

    def _state(self, length: int, link: int, following: dict[int, int]) -> int:
        self.length.append(length)
        self.link.append(link)
        self.next.append(following)
        return len(self.next) - 1

    def _add(self, last: int, byte: int) -> int:
        """Append a byte: the state of all that was appended so far."""
        newest, state = self._state(self.length[last] + 1, 0, {}), last
        while state >= 0 and byte not in self.next[state]:
            self.next[state][byte] = newest
            state = self.link[state]
        if state >= 0:
            old = self.next[state][byte]
            if self.length[old] == self.length[state] + 1:
                self.link[newest] = old
            else:
                clone = self._state(self.length[state] + 1, self.link[old], dict(self.next[old]))
                while state >= 0 and self.next[state].get(byte) == old:
                    self.next[state][byte] = clone
                    state = self.link[state]
                self.link[old] = self.link[newest] = clone
        return newest
