"""Stop strings in streamed text."""

from collections.abc import Sequence


class StopStringFilter:
    """Filter that ends streamed text before a stop string.

    The end of the text is held back while it may be the start of a stop string: with the stop string "ab", the chunks
    "xa", "c" become "x", "ac"; the chunks "xa", "b" become "x", "".

    Args:
        stop: Stop strings, none of them empty.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = stop
        self.ended = False
        self._buffer = ""

    def add(self, chunk: str) -> str:
        """Add the next chunk, and return the text that is safe to emit."""
        if self.ended:
            return ""
        if not self.stop:
            return chunk
        self._buffer += chunk
        matches = [position for position in map(self._buffer.find, self.stop) if position >= 0]
        if matches:
            self.ended = True
            num_safe = min(matches)
        else:
            num_safe = len(self._buffer) - max(_overlap(self._buffer, string) for string in self.stop)
        safe, self._buffer = self._buffer[:num_safe], self._buffer[num_safe:]
        return safe

    def finish(self) -> str:
        """End the text after its last chunk, and return the text held back."""
        remaining = "" if self.ended else self._buffer
        self.ended = True
        return remaining


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest proper prefix of `string` that is a suffix of `text`."""
    longest = min(len(string) - 1, len(text))
    return next(length for length in range(longest, -1, -1) if text.endswith(string[:length]))
