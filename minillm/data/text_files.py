"""Text files: character encodings, gzip, JSON Lines and documents."""

import codecs
import encodings.aliases
import gzip
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from importlib.util import find_spec
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, Any, Literal, Self, cast, get_args

from minillm.data.file_types import describe_binary, describe_mismatch

CHUNK_CHARS = 2**20  # characters read at once
HEAD_BYTES = 8192  # start of a file, from which its encoding and type are recognized
END_OF_DOCUMENT = ""  # marks the end of a document in a sequence of chunks

DocumentMode = Literal["none", "file", "line"]

_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARKS = (  # longest first: that of UTF-32 starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_FOR_FILES = {"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "utf_7"}


@dataclass(frozen=True)
class TextFormat:
    """Format of the files of a corpus.

    Args:
        encoding: Name of a character encoding of Python's; a file that starts with a byte order mark has the encoding
            of its mark.
        text_field: Field of the records of JSON Lines files that holds the text.
        documents: Whether the text consists of documents: `file` makes each file one, `line` each line that is not
            blank; a record of JSON Lines is a document in both.

    Raises:
        ValueError: The encoding is not one of Python's text encodings, or `documents` is none of these values.
    """

    encoding: str = "utf-8"
    text_field: str = "text"
    documents: DocumentMode = "none"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the format in the data settings of a run, which may be those of an older version."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def __post_init__(self) -> None:
        """Check the values."""
        if not _is_text_encoding(self.encoding):
            raise ValueError(f"encoding {self.encoding!r} is not a text encoding of Python, such as utf-8 or cp1252")
        if self.documents not in get_args(DocumentMode):
            raise ValueError(f"documents must be one of none, file and line, got {self.documents!r}")


def _is_text_encoding(name: str) -> bool:
    """Return whether an encoding is one of the standard library: a package may register a codec for any name."""
    normalized = encodings.normalize_encoding(name).lower().replace(".", "_")
    module = encodings.aliases.aliases.get(normalized, normalized)
    if module in _NOT_FOR_FILES or find_spec(f"encodings.{module}") is None:
        return False
    with suppress(LookupError):
        return bool("a".encode(name))
    return False


def read_file(file: Path, text_format: TextFormat) -> Iterator[str]:
    """Read a text file in chunks, with `END_OF_DOCUMENT` after each document.

    A file that starts like a gzip file is decompressed. In a file named .jsonl or .ndjson, the records are read.
    Line breaks become newlines.

    Args:
        file: The file.
        text_format: Its format.

    Returns:
        An iterator over chunks, none of which is empty, and ends of documents.

    Raises:
        ValueError: The file cannot be read, is not text, or not in this encoding, or a record has no text.
    """
    with _read_errors(file, text_format.encoding), _open(file, text_format.encoding) as text:
        if is_json_lines(file):
            for record in _read_records(text, file, text_format.text_field):
                if text_format.documents == "none":
                    yield record if record.endswith("\n") else f"{record}\n"
                else:
                    yield from (record, END_OF_DOCUMENT)
        elif text_format.documents == "line":
            yield from split_lines(text)
        else:
            is_empty = True
            while chunk := text.read(CHUNK_CHARS):
                is_empty = False
                yield chunk
            if text_format.documents == "file" and not is_empty:
                yield END_OF_DOCUMENT


def is_json_lines(file: Path) -> bool:
    """Return whether the name of a file is one of JSON Lines."""
    return file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def is_compressed(file: Path) -> bool:
    """Return whether a file starts like a gzip file.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as content:
        return content.read(len(_GZIP)) == _GZIP


def split_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield each line that is not blank, without the whitespace at its end, followed by `END_OF_DOCUMENT`."""
    for line in lines:
        if stripped := line.rstrip():
            yield stripped
            yield END_OF_DOCUMENT


def _read_records(lines: Iterable[str], file: Path, field: str) -> Iterator[str]:
    """Yield the texts of the records of a JSON Lines file that are not empty."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} line {number} is not JSON: {error}") from None
        fields = cast(dict[str, Any], record) if isinstance(record, dict) else {}
        text = fields.get(field)
        if not isinstance(text, str):
            problem = f"is {type(fields[field]).__name__}, not text" if field in fields else "is missing"
            names = f"its fields are {', '.join(map(repr, fields))[:200]}" if fields else "it is not an object"
            raise ValueError(
                f"{file} line {number}: field {field!r} {problem}; {names}; --data.text_field names another"
            )
        if any("\ud800" <= character <= "\udfff" for character in (text if "\\ud" in line.lower() else "")):
            raise ValueError(f"{file} line {number} is not valid Unicode: it has half of a surrogate pair")
        if text:
            yield re.sub("\r\n?", "\n", text)


@contextmanager
def _open(file: Path, encoding: str) -> Generator[IO[str]]:
    """Open a text file, decompressed.

    Raises:
        ValueError: It is not text.
    """
    with file.open("rb") as raw, _decompressed(raw) as content:
        head = content.peek(HEAD_BYTES)[:HEAD_BYTES]
        encoding = marked_encoding(head) or encoding
        if problem := describe_binary(file, head, encoding) or describe_mismatch(head, encoding):
            raise ValueError(f"{file} {problem}")
        with TextIOWrapper(content, encoding) as text:
            yield text


def file_encoding(file: Path, default: str) -> str:
    """Return the encoding of a file by its byte order mark, or else the default.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as raw, _decompressed(raw) as content:
        return marked_encoding(content.peek(HEAD_BYTES)) or default


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that a text has by its byte order mark, if there is one."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), None)


def _decompressed(content: BufferedReader) -> BufferedReader:
    if content.peek(2).startswith(_GZIP):
        return BufferedReader(cast(Any, gzip.GzipFile(fileobj=content)))
    return content


@contextmanager
def _read_errors(file: Path, encoding: str) -> Generator[None]:
    """Turn errors of reading a file into a ValueError that names the file."""
    try:
        yield
    except UnicodeError as error:
        actual = file_encoding(file, encoding)
        found = _first_invalid_byte(file, actual)
        where = f"byte 0x{found[1]:02x} at offset {found[0]}" if found else str(error)
        other = "utf-16-le" if "utf-16" in actual else "cp1252" if actual != "cp1252" else "latin-1"
        advice = f"pass its encoding, such as --data.encoding {other}, or convert it to UTF-8"
        raise ValueError(f"{file} is not {actual.removesuffix('-sig').upper()} text: {where}; {advice}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def _first_invalid_byte(file: Path, encoding: str) -> tuple[int, int] | None:
    """Return the offset and value of the first byte that is not in an encoding.

    An error of a text file counts from the start of its read buffer, not of the file.
    """
    decoder, num_read = codecs.getincrementaldecoder(encoding)(), 0
    with file.open("rb") as raw, _decompressed(raw) as content:
        while True:
            block = content.read(CHUNK_CHARS)
            num_buffered = len(decoder.getstate()[0])  # bytes of an incomplete character at the end of the last block
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return num_read - num_buffered + error.start, error.object[error.start]
            except UnicodeError:  # such as UTF-16 without a byte order mark
                return None
            if not block:
                return None
            num_read += len(block)
