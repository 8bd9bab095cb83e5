"""Memorization check: the longest verbatim match between generated text and the training text."""

from collections.abc import Iterable

import numpy as np

BLOCK_BYTES = 8
MIN_MATCH_BYTES = 2 * BLOCK_BYTES - 1  # a match of this length contains an aligned block, at any offset


def longest_verbatim_match(sample: str, text: bytes) -> str:
    """Return the longest substring of a sample that occurs verbatim in a text.

    The text is split into aligned blocks of 8 bytes, which NumPy compares as integers with all 8-byte windows of the
    sample. Only around matching blocks is the text scanned byte by byte, with a suffix automaton of the sample.

    Args:
        sample: Generated text.
        text: Training text, in UTF-8.

    Returns:
        The match, or an empty string if it is shorter than 15 bytes.
    """
    content = sample.encode()
    if len(content) < MIN_MATCH_BYTES:
        return ""
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(content, np.uint8), BLOCK_BYTES)
    text_blocks = np.frombuffer(text, np.uint64, len(text) // BLOCK_BYTES)
    sample_blocks = np.sort(windows.copy().view(np.uint64), axis=None)
    nearest = sample_blocks[np.minimum(np.searchsorted(sample_blocks, text_blocks), len(sample_blocks) - 1)]
    matches = np.flatnonzero(nearest == text_blocks)
    if not len(matches):
        return ""
    runs, longest = np.split(matches, np.flatnonzero(np.diff(matches) > 1) + 1), b""
    automaton = _SuffixAutomaton(content)
    for run in runs:  # of consecutive matching blocks
        region = text[max(run[0] * BLOCK_BYTES - BLOCK_BYTES, 0) : (run[-1] + 2) * BLOCK_BYTES]
        longest = max(longest, automaton.longest_match(region), key=len)
    return longest.decode(errors="ignore") if len(longest) >= MIN_MATCH_BYTES else ""


class _SuffixAutomaton:
    """Suffix automaton: the paths from its initial state spell all substrings of a byte string of n bytes.

    It has at most 2n states. A state represents the substrings that end at the same set of positions; its suffix link
    leads to the state of their longest suffix that ends at more positions.

    Source: Blumer et al. 1985, "The smallest automaton recognizing the subwords of a text".
    """

    def __init__(self, content: bytes) -> None:
        self.transitions: list[dict[int, int]] = [{}]
        self.suffix_links, self.max_lengths = [-1], [0]
        last = 0
        for byte in content:
            last = self._append(last, byte)

    def longest_match(self, text: Iterable[int]) -> bytes:
        """Return the longest substring that occurs in the text."""
        longest, state, current = b"", 0, bytearray()
        for byte in text:
            while state and byte not in self.transitions[state]:
                state = self.suffix_links[state]
            del current[: max(len(current) - self.max_lengths[state], 0)]
            if byte in self.transitions[state]:
                state = self.transitions[state][byte]
                current.append(byte)
            if len(current) > len(longest):
                longest = bytes(current)
        return longest

    def _new_state(self, max_length: int, suffix_link: int, transitions: dict[int, int]) -> int:
        self.max_lengths.append(max_length)
        self.suffix_links.append(suffix_link)
        self.transitions.append(transitions)
        return len(self.transitions) - 1

    def _append(self, last: int, byte: int) -> int:
        """Append a byte after state `last`, and return the state of the whole string so far."""
        newest, state = self._new_state(self.max_lengths[last] + 1, 0, {}), last
        while state >= 0 and byte not in self.transitions[state]:
            self.transitions[state][byte] = newest
            state = self.suffix_links[state]
        if state >= 0:
            old = self.transitions[state][byte]
            if self.max_lengths[old] == self.max_lengths[state] + 1:
                self.suffix_links[newest] = old
            else:
                clone = self._new_state(
                    self.max_lengths[state] + 1, self.suffix_links[old], dict(self.transitions[old])
                )
                while state >= 0 and self.transitions[state].get(byte) == old:
                    self.transitions[state][byte] = clone
                    state = self.suffix_links[state]
                self.suffix_links[old] = self.suffix_links[newest] = clone
        return newest
