"""Checks of a text for what is probably not meant to be learned: lost characters, markup, mixed Unicode forms."""

import re
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from minillm.tokenizer.prompts import NormalForm

MIN_SORTED_DOCUMENTS = 50
MAX_UNSORTED_FRACTION = 0.02  # of the documents of a sorted list
MAX_COMPARED_CHARS = 100  # of each document
MIN_VECTORIZED_CHARS = 2**17
MARKUP = re.compile(r"\s*(?:<!--.{,200}?-->\s*)*<(?:!doctype|html|body|svg|\?xml)\b", re.IGNORECASE | re.DOTALL)


@dataclass
class Finding:
    """Characters of a kind: their number, and the place of the first one."""

    count: int
    place: str


@dataclass
class TextCheck:
    """Incremental check of a text, to which segments are added in order."""

    alphabet: set[str] = field(default_factory=set[str])
    num_chars: int = 0
    num_documents: int = 0
    num_markup_files: int = 0
    findings: dict[str, Finding] = field(default_factory=dict[str, Finding])
    _marks: set[str] = field(default_factory=set[str])  # that follow the character they belong to
    _file: Path | None = None  # the current one
    _unit: str = "line"  # in which places are counted
    _num_units: int = 0  # so far in the current file
    _is_start: bool = True  # of the current file
    _violated_forms: set[NormalForm] = field(default_factory=set[NormalForm])
    _num_ascending: int = 0  # pairs of successive documents
    _num_descending: int = 0
    _document: str = ""  # the beginning of the current one
    _last_document: str = ""

    def begin_file(self, file: Path | None, unit: Literal["line", "record", "document"] = "line") -> None:
        """Start a file, whose text are the segments that follow; places in it are counted in a unit."""
        self._file, self._unit, self._num_units, self._is_start = file, unit, 0, True

    def add(self, segment: str) -> None:
        """Check the next segment of the text; an empty one ends a document."""
        if not segment:
            self._end_document()
            return
        characters = distinct_characters(segment)
        new = characters - self.alphabet
        self.alphabet |= characters
        self._marks |= {character for character in new if _may_compose(character)}
        for character in sorted(characters & _SUSPICIOUS.keys(), key=segment.index):
            self._report(_SUSPICIOUS[character], segment, segment.count(character), segment.index(character))
        if not self._marks.isdisjoint(characters):
            self._check_marks(segment)
        if self._is_start and MARKUP.match(segment[:1000]):
            self.num_markup_files += 1
        self._is_start = False
        if self._unit == "line":
            self._num_units += segment.count("\n")
        self._num_units += self._unit == "record"
        self.num_chars += len(segment)
        self._document = self._document or segment[:MAX_COMPARED_CHARS]

    @property
    def normal_form(self) -> NormalForm | None:
        """Unicode normalization form of the text; None if its characters have one form only, or if it mixes forms."""
        forms: tuple[NormalForm, NormalForm] = ("NFC", "NFD")
        if not self._marks and all(unicodedata.is_normalized("NFD", character) for character in self.alphabet):
            return None
        for form in forms:
            is_normalized = all(unicodedata.is_normalized(form, character) for character in self.alphabet)
            if is_normalized and form not in self._violated_forms:
                return form
        return None

    def place_of_last(self, segment: str, position: int) -> str:
        """Return the place of a character of the segment that was added last."""
        num_units = {"line": segment.count("\n"), "record": 1, "document": 0}
        num_before = self._num_units - num_units[self._unit]
        return self._place(segment, position, num_before)

    def messages(self) -> list[str]:
        """Return one line for each kind of problem."""
        problems = {kind: finding for kind, finding in self.findings.items() if kind in _ADVICE}
        lines = [self._describe(kind, finding) for kind, finding in problems.items()]
        if "decomposed characters" in self.findings and any(map(_is_composed, self.alphabet)):
            what = self._describe("decomposed characters", self.findings["decomposed characters"])
            lines.append(f"{what}; others are composed, and the model takes them for different ones: convert to NFC")
        if self.num_markup_files:
            files = "file starts" if self.num_markup_files == 1 else "files start"
            lines.append(f"{self.num_markup_files:,} {files} like HTML or XML, whose tags are learned as text")
        is_sorted = self._num_descending <= MAX_UNSORTED_FRACTION * self.num_documents
        if is_sorted and self._num_ascending >= MIN_SORTED_DOCUMENTS:
            lines.append("the documents are sorted, so the validation split differs from the rest: shuffle them (shuf)")
        return lines

    def _end_document(self) -> None:
        self.num_documents += 1
        self._num_units += self._unit == "document"
        document = self._document.casefold()
        self._num_ascending += self._last_document < document
        self._num_descending += self._last_document > document
        self._last_document, self._document = document, ""

    def _check_marks(self, segment: str) -> None:
        """Check the Unicode normalization of a segment that has marks."""
        forms: tuple[NormalForm, NormalForm] = ("NFC", "NFD")
        self._violated_forms |= {form for form in forms if not unicodedata.is_normalized(form, segment)}
        if count := num_decomposed(segment):
            composed = unicodedata.normalize("NFC", segment)
            first = next(index for index, (a, b) in enumerate(zip(segment, composed, strict=False)) if a != b)
            self._report("decomposed characters", segment, count, first)

    def _report(self, kind: str, segment: str, count: int, position: int) -> None:
        self.findings.setdefault(kind, Finding(0, self._place(segment, position, self._num_units))).count += count

    def _place(self, segment: str, position: int, num_before: int) -> str:
        number = 1 + num_before + (segment.count("\n", 0, position) if self._unit == "line" else 0)
        return f"in {self._unit} {number:,}" + (f" of {self._file}" if self._file else "")

    def _describe(self, kind: str, finding: Finding) -> str:
        advice = f": {_ADVICE[kind]}" if kind in _ADVICE else ""
        kind = kind if finding.count > 1 else kind.replace("characters", "character").replace("marks", "mark")
        return f"the text has {finding.count:,} {kind}, the first {finding.place}{advice}"


def distinct_characters(text: str) -> set[str]:
    """Return `set(text)`, for a long text in a third of its time."""
    if len(text) < MIN_VECTORIZED_CHARS:
        return set(text)
    is_found = np.zeros(sys.maxunicode + 1, bool)
    is_found[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)] = True
    return set(map(chr, np.flatnonzero(is_found).tolist()))


def num_decomposed(text: str) -> int:
    """Return the number of marks in a text that would compose with the character before them."""
    return 0 if unicodedata.is_normalized("NFC", text) else max(len(text) - len(unicodedata.normalize("NFC", text)), 0)


def _may_compose(character: str) -> bool:
    return character > "\x7f" and (unicodedata.combining(character) > 0 or "\u1160" <= character <= "\u11ff")


def _is_composed(character: str) -> bool:
    return len(unicodedata.normalize("NFD", character)) > 1 and unicodedata.is_normalized("NFC", character)


_ADVICE = {
    "NUL characters": "remove them (tr -d '\\000'), or pass the right --data.encoding",
    "control characters": "remove them (colours of a terminal, say), or pass the right --data.encoding",
    "replacement characters (U+FFFD)": "a conversion has lost what they stand for; convert the original again",
    "byte order marks": "remove them (U+FEFF)",
}
_SUSPICIOUS = {
    **{chr(code): "control characters" for code in (*range(1, 9), *range(14, 32), *range(127, 160))},
    "\0": "NUL characters",
    "\ufffd": "replacement characters (U+FFFD)",
    "\ufeff": "byte order marks",
    "\ufffe": "byte order marks",
}
del _SUSPICIOUS["\x85"]  # a line break of Unicode
