"""Recognition of files that are not text, or not in the encoding that they are read with, by their first bytes."""

import codecs
import shlex
import zipfile
from contextlib import suppress
from pathlib import Path

MAX_CONTROL_FRACTION = 0.05  # of control characters in the head of a text; compressed data have 0.1
MAX_HIGH_FRACTION = 0.7  # of the high bytes of UTF-16: their different values, relative to those of the low bytes

_CONTROL_BYTES = bytes(byte for byte in range(32) if byte not in b"\b\t\n\v\f\r\x1b")
_ZIP = b"PK\x03\x04"
_SIGNATURES = (  # first bytes, type, command that converts it
    (b"%PDF-", "a PDF document", "pdftotext {}"),
    (b"{\\rtf", "an RTF document", "pandoc {} -t plain -o {}.txt"),
    (b"%!PS-", "a PostScript document", "ps2ascii {} {}.txt"),
    (b"\xd0\xcf\x11\xe0", "an Office document", "libreoffice --headless --convert-to txt:Text {}"),
    (b"\x89PNG", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"GIF8", "a GIF image", ""),
    (b"BZh", "a bzip2 file", "bunzip2 --keep {}"),
    (b"\xfd7zXZ", "an xz file", "unxz --keep {}"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unzstd {}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {}"),
    (b"Rar!\x1a", "a RAR archive", "unrar x {}"),
    (b"\x7fELF", "a program", ""),
    (b"SQLite format 3\0", "an SQLite database", "sqlite3 {} .dump > {}.txt"),
    (b"PAR1", "a Parquet file", "python -c 'import pandas, sys; pandas.read_parquet(sys.argv[1])"
     ".to_json(sys.argv[1] + \".jsonl\", orient=\"records\", lines=True)' {}"),
    (b"ID3", "an MP3 file", ""),
    (b"OggS", "an Ogg file", ""),
)  # fmt: skip
_PLAIN_SIGNATURES = (b"%PDF-", b"{\\rtf", b"%!PS-")  # of types whose files may hold printable characters only
_ZIP_TYPES = (  # a file in the archive, type, command that converts it
    ("word/document.xml", "a Word document", "pandoc {} -t plain -o {}.txt"),
    ("META-INF/container.xml", "an EPUB book", "pandoc {} -t plain -o {}.txt"),
    ("content.xml", "an OpenDocument file", "libreoffice --headless --convert-to txt:Text {}"),
    ("xl/workbook.xml", "an Excel workbook", "libreoffice --headless --convert-to csv {}"),
    ("", "a ZIP archive", "unzip {}"),
)


def describe_binary(file: Path, head: bytes, encoding: str) -> str:
    """Return why a file is not text in an encoding, judging by its first bytes; an empty string if it may be."""
    control = head.translate(None, bytes(set(range(256)) - set(_CONTROL_BYTES)))
    is_binary = len(control) > MAX_CONTROL_FRACTION * len(head)
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    if is_binary and not wide and (suspected := _suspected_encoding(head)):
        return f"seems to be {suspected.upper()} without a byte order mark: pass --data.encoding {suspected}"
    if wide or not (is_binary or head.startswith((_ZIP, *_PLAIN_SIGNATURES))):
        return ""
    if head.startswith(_ZIP):
        return _describe(file, *_zip_type(file))
    for signature, kind, command in _SIGNATURES:
        if head.startswith(signature):
            return _describe(file, kind, command)
    return f"is not text: it starts with the bytes {head[:8].hex(' ')}" if is_binary else ""


def describe_mismatch(head: bytes, encoding: str) -> str:
    """Return why a file is probably not in an encoding; an empty string if it may be."""
    if codecs.lookup(encoding).name.startswith("utf") or head.isascii():
        return ""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    return f"seems to be UTF-8, not {encoding}: leave out --data.encoding, and convert files in {encoding} to UTF-8"


def _describe(file: Path, kind: str, command: str) -> str:
    path = shlex.quote(str(file))
    return f"is {kind}, not text" + (f": convert it with: {command.replace('{}', path)}" if command else "")


def _zip_type(file: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = {*archive.namelist(), ""}
    except (OSError, zipfile.BadZipFile):
        names = {""}
    return next((kind, command) for name, kind, command in _ZIP_TYPES if name in names)


def _suspected_encoding(head: bytes) -> str | None:
    """Return the form of UTF-16 or UTF-32 that a head with many control characters is probably written in.

    The high bytes of a text have fewer different values than its low bytes.
    """
    for name, high, low in (
        ("utf-32-le", head[2::4] + head[3::4], head[0::4]),
        ("utf-32-be", head[0::4] + head[1::4], head[3::4]),
        ("utf-16-le", head[1::2], head[0::2]),
        ("utf-16-be", head[0::2], head[1::2]),
    ):
        if len(set(high)) <= MAX_HIGH_FRACTION * len(set(low)) or len(set(high)) == 1:
            with suppress(UnicodeDecodeError):
                text = codecs.getincrementaldecoder(name)().decode(head)
                if sum(c.isprintable() or c.isspace() for c in text) > 0.9 * len(text):
                    return name
    return None
