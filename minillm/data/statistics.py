"""Statistics of a text: characters, lines, documents, duplicates, and baselines of its predictability."""

import lzma
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from minillm.data.corpus import Corpus, split_position
from minillm.data.ngrams import compressed_bits, ngram_bits
from minillm.data.text_checks import TextCheck, distinct_characters
from minillm.data.text_files import CHUNK_CHARS, END_OF_DOCUMENT

MIN_DUPLICATE_CHARS = 40  # of a line that counts as a duplicate
MAX_BASELINE_CHARS = 5_000_000  # of the beginning of the text, for the baselines
MIN_BASELINE_CHARS = 100  # of each split
MAX_NGRAM_LENGTH = 4


@dataclass
class TextStatistics:
    """Statistics of a text, to which chunks are added in order.

    `counts` (0x110000,) has the number of occurrences of each code point, `first_places` the place of the first
    occurrence of each character. A duplicate is a document, or a line of some length, that has occurred before.
    """

    check: TextCheck = field(default_factory=TextCheck)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(sys.maxunicode + 1, np.int64))
    first_places: dict[str, str] = field(default_factory=dict[str, str])
    num_lines: int = 0
    longest_line: int = 0  # in characters
    num_duplicate_chars: int = 0  # in duplicate lines
    longest_duplicate: str = ""  # line
    document_lengths: list[int] = field(default_factory=list[int])  # in characters
    num_duplicate_documents: int = 0
    beginning: str = ""
    _buffer: list[str] = field(default_factory=list[str])  # chunks whose characters are not counted yet
    _buffer_chars: int = 0
    _document: list[str] = field(default_factory=list[str])
    _line: str = ""  # the incomplete last one
    _hashes: set[int] = field(default_factory=set[int])  # of documents and lines

    @classmethod
    def of(cls, text: Corpus) -> Self:
        """Read a text, and return its statistics.

        Raises:
            ValueError: A source cannot be read.
        """
        statistics = cls()
        for chunk in text.read_checked(statistics.check):
            statistics._add(chunk, text.has_documents)
        statistics._add_lines([statistics._line] if statistics._line else [])
        statistics._count()
        statistics.counts[ord("\n")] -= len(statistics.document_lengths)  # `_end_document` has added them
        return statistics

    def rarest(self, number: int) -> list[tuple[str, int]]:
        """Return the rarest characters and their numbers of occurrences, the rarest first."""
        counted = [(character, int(self.counts[ord(character)])) for character in self.check.alphabet]
        return sorted(counted, key=lambda pair: (pair[1], pair[0]))[:number]

    def split(self) -> tuple[int, int]:
        """Return the number of characters of the training and of the validation split."""
        position = split_position(self.check.num_chars, np.cumsum(self.document_lengths).tolist())
        return position, self.check.num_chars - position

    def baselines(self) -> dict[str, float]:
        """Return bits per character of the last 10 % of `beginning`, given the first 90 %; empty for a short text."""
        position = split_position(len(self.beginning), ())
        train, text = self.beginning[:position], self.beginning[position:]
        if len(text) < MIN_BASELINE_CHARS:
            return {}
        bits = [*ngram_bits(train, text, MAX_NGRAM_LENGTH)]
        found = {
            "1-gram": bits[0],
            f"{MAX_NGRAM_LENGTH}-gram": bits[-1],
            "xz": compressed_bits(lzma.compress, train, text),
        }
        ends_per_char = len(self.document_lengths) / self.check.num_chars  # ends of documents are not characters
        return {name: value * (1 + ends_per_char) for name, value in found.items()}

    def _add(self, chunk: str, has_documents: bool) -> None:
        if chunk == END_OF_DOCUMENT:
            self._end_document()
            return
        for character in distinct_characters(chunk) - self.first_places.keys():
            self.first_places[character] = self.check.place_of_last(chunk, chunk.index(character))
        self._buffer.append(chunk)
        self._buffer_chars += len(chunk)
        if self._buffer_chars >= CHUNK_CHARS:
            self._count()
        if has_documents:
            self._document.append(chunk)
        *lines, self._line = (self._line + chunk).split("\n")
        self._add_lines(lines)

    def _add_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.num_lines += 1
            self.longest_line = max(self.longest_line, len(line))
            if len(line) >= MIN_DUPLICATE_CHARS and self._is_known(line):
                self.num_duplicate_chars += len(line)
                self.longest_duplicate = max(self.longest_duplicate, line, key=len)

    def _end_document(self) -> None:
        document = "".join(self._document)
        self.document_lengths.append(len(document))
        self.num_duplicate_documents += self._is_known(f"document\n{document}")
        self._document = []
        self._buffer.append("\n")  # for the baselines
        if self._line:
            self._add_lines([self._line])
            self._line = ""

    def _is_known(self, text: str) -> bool:
        """Return whether a text has occurred before, by its 64-bit hash."""
        value, before = hash(text), len(self._hashes)
        self._hashes.add(value)
        return len(self._hashes) == before

    def _count(self) -> None:
        """Count the characters of the buffer."""
        text = "".join(self._buffer)
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        self.counts += np.bincount(codes, minlength=len(self.counts))
        self.beginning += text[: MAX_BASELINE_CHARS - len(self.beginning)]
        self._buffer, self._buffer_chars = [], 0
