"""Stop strings, in a text that comes in pieces."""

from collections.abc import Sequence


class StopStringFilter:
    """Passes a text on, piece by piece, until a stop string appears, which is left out with all that follows.

    What may turn out to be the beginning of a stop string is held back until that is known: with the stop string
    "ab", the pieces "xa", "c" come out as "x", "ac", and "xa", "b" as "x" and nothing.

    Args:
        stop: Strings of at least one character.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = stop
        self.ended = False
        self._held = ""

    def add(self, piece: str) -> str:
        """Take the next piece, and return what can be shown now."""
        if self.ended:
            return ""
        if not self.stop:
            return piece
        self._held += piece
        found = [position for position in map(self._held.find, self.stop) if position >= 0]
        if found:
            self.ended = True
            ready = min(found)
        else:
            ready = len(self._held) - max(_overlap(self._held, string) for string in self.stop)
        shown, self._held = self._held[:ready], self._held[ready:]
        return shown

    def finish(self) -> str:
        """There are no more pieces: return what was held back."""
        held = "" if self.ended else self._held
        self.ended = True
        return held


def _overlap(text: str, string: str) -> int:
    """The length of the longest beginning of `string`, short of all of it, that `text` ends with."""
    longest = min(len(string) - 1, len(text))
    return next(length for length in range(longest, -1, -1) if text.endswith(string[:length]))
