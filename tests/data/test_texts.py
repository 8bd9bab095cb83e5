"""Texts as people have them: each is read as meant, with a warning where it is doubtful, or refused in one line."""

import gzip
import json
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from minillm.data.corpus import load_text, open_corpus
from minillm.data.prepare import TokenizedCorpus, prepare
from minillm.data.text_files import TextFormat
from minillm.tokenizer.prompts import normalize_prompt

GERMAN = "Über allen Gipfeln ist Ruh,\nin allen Wipfeln spürest du kaum einen Hauch.\n" * 20
RUSSIAN = "Мороз и солнце; день чудесный!\nЕщё ты дремлешь, друг прелестный.\n" * 20
CHINESE = "床前明月光,疑是地上霜。\n举头望明月,低头思故乡。\n" * 20
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたか見当がつかぬ。\n" * 20
SORTED = "\n".join(f"{n:02}" for n in range(99))
FRENCH_DECOMPOSED = "Le cafe\u0301 e\u0301tait ferme\u0301.\n" * 20


class Text(NamedTuple):
    """A file, the settings it is read with, and its text or a pattern of the error; patterns of all its warnings."""

    file: str
    content: bytes
    text: str = ""
    settings: Mapping[str, Any] = MappingProxyType({})
    error: str = ""
    warnings: tuple[str, ...] = ()


def archive(*names: str, content: str = "<xml/>") -> bytes:
    found = BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for name in ("[Content_Types].xml", *names):
            file.writestr(name, content)
    return found.getvalue()


def json_lines(*records: object) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


TEXTS = [
    Text("utf8.txt", GERMAN.encode(), GERMAN),
    Text("windows.txt", GERMAN.replace("\n", "\r\n").encode("utf-8-sig"), GERMAN),
    Text("latin1.txt", GERMAN.encode("latin-1"), error="byte 0xdc at offset 0; pass its encoding, .*encoding cp1252"),
    Text("latin1.txt", GERMAN.encode("latin-1"), GERMAN, {"encoding": "cp1252"}),
    Text("koi8.txt", RUSSIAN.encode("koi8-r"), error="koi8.txt is not UTF-8 text: byte 0xed at offset 0"),
    Text("koi8.txt", RUSSIAN.encode("koi8-r"), RUSSIAN, {"encoding": "koi8-r"}),
    Text("mark.txt", RUSSIAN.encode("utf-16"), RUSSIAN),
    Text("mark32.txt", CHINESE.encode("utf-32"), CHINESE, {"encoding": "latin-1"}),
    Text(
        "utf16.txt",
        GERMAN.encode("utf-16-le"),
        error="UTF-16-LE without a byte order mark: .* --data.encoding utf-16-le$",
    ),
    Text("utf16.txt", RUSSIAN.encode("utf-16-be"), error="pass --data.encoding utf-16-be$"),
    Text("utf32.txt", GERMAN.encode("utf-32-be"), error="pass --data.encoding utf-32-be$"),
    Text("utf16.txt", RUSSIAN.encode("utf-16-be"), RUSSIAN, {"encoding": "utf-16-be"}),
    Text("sjis.txt", "吾輩は猫である。\n".encode("shift_jis") * 9, "吾輩は猫である。\n" * 9, {"encoding": "shift_jis"}),
    Text("rot.txt", b"a", error="'rot13' is not a text encoding of Python", settings={"encoding": "rot13"}),
    Text("one.txt", b"x", "x"),
    Text("mail.txt.gz", gzip.compress(GERMAN.encode("latin-1")), GERMAN, {"encoding": "latin-1"}),
    Text("cut.txt.gz", gzip.compress(GERMAN.encode())[:-20], error="cut.txt.gz is a damaged gzip file"),
    Text(
        "a.jsonl", json_lines({"text": "One.\r\nTwo."}, {"text": "", "id": 3}, {"text": "Three"}), "One.\nTwo.\nThree\n"
    ),
    Text("a.jsonl.gz", gzip.compress(json_lines({"body": "é"})), "é\n", {"text_field": "body"}),
    Text(
        "a.ndjson",
        json_lines({"body": "x", "n": 1}),
        error="line 1: field 'text' is missing; its fields are 'body', 'n'",
    ),
    Text("a.jsonl", b'{"text": "x"}\n\n[1]\n', error="a.jsonl line 3: field 'text' is missing; it is not an object"),
    Text("a.jsonl", b'{"text": "x"}\n{"text": \n', error="a.jsonl line 2 is not JSON"),
    Text("a.jsonl", b'{"text": "\\ud800"}\n', error="line 1 is not valid Unicode"),
    Text("a.jsonl", b"[" * 100_000, error="line 1 is not JSON"),
    Text("names.txt", b"Ann\n\n  \nBob \nCy", "Ann\nBob\nCy", {"documents": "line"}),
    Text("a.jsonl", json_lines({"text": "A\nB"}, {"text": "C"}), "A\nB\nC", {"documents": "line"}),
    Text("report.docx", archive("word/document.xml"), error="is a Word document, not text: convert it with: pandoc "),
    Text("book.epub", archive("mimetype", "META-INF/container.xml"), error="is an EPUB book, not text"),
    Text("all.zip", archive("a.txt"), error="is a ZIP archive, not text: convert it with: unzip "),
    Text("a.pdf", b"%PDF-1.4\n" + GERMAN.encode(), error="is a PDF document, not text: convert it with: pdftotext "),
    Text("a.rtf", b"{\\rtf1\\ansi Hello}", error="is an RTF document"),
    Text("a.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, error="a.png is a PNG image, not text$"),
    Text(
        "a.pyc", b"\x6f\x0d\x0d\x0a" + bytes(range(256)) * 9, error="is not text: it starts with the bytes 6f 0d 0d 0a"
    ),
    Text("id3.txt", b"ID3 tags hold titles. " * 9, "ID3 tags hold titles. " * 9),
    Text(
        "nul.txt", b"a\nb\0c" + GERMAN.encode(), f"a\nb\0c{GERMAN}", warnings=("1 NUL .* first in line 2 of .*nul.txt",)
    ),
    Text(
        "lost.txt",
        "a\nb \ufffd\ufffd\ufeff".encode(),
        "a\nb \ufffd\ufffd\ufeff",
        warnings=("2 replacement", "1 byte order"),
    ),
    Text(
        "c1.txt",
        b"don\x92t",
        "don\x92t",
        {"encoding": "latin-1"},
        warnings=("1 control character, the first in line 1",),
    ),
    Text(
        "page.html", b"\n<!DOCTYPE html><p>Hi", "\n<!DOCTYPE html><p>Hi", warnings=("1 file starts like HTML or XML",)
    ),
    Text("nfd.txt", FRENCH_DECOMPOSED.encode(), FRENCH_DECOMPOSED),
    Text(
        "mixed.txt",
        b"caf\xc3\xa9\ncafe\xcc\x81",
        "café\ncafe\u0301",
        warnings=("1 decomposed .* in line 2 .* convert to NFC",),
    ),
    Text(
        "list.txt", b"".join(b"%02d\n" % n for n in range(99)), SORTED, {"documents": "line"}, warnings=("are sorted",)
    ),
    Text("empty.jsonl", b"\n \n", error="is empty"),
    Text("null.jsonl", json_lines({"text": None}), error="field 'text' is NoneType, not text; its fields are 'text';"),
    Text("upper.JSONL", json_lines({"text": "x"}), "x\n"),
    Text("typo.txt", b"list[int]", error="'cp1225' is not a text encoding", settings={"encoding": "cp1225"}),
    Text("escapes.txt", b"a", error="is not a text encoding", settings={"encoding": "raw_unicode_escape"}),
    Text("utf8.txt", GERMAN.encode(), error="seems to be UTF-8, not cp1252: ", settings={"encoding": "cp1252"}),
    Text("japanese.txt", JAPANESE.encode("utf-16-le"), error="pass --data.encoding utf-16-le$"),
    Text("japanese.txt", JAPANESE.encode("utf-16-be"), error="pass --data.encoding utf-16-be$"),
    Text(
        "utf16.txt", b"ab", error="utf16.txt is not UTF-16 text: .*BOM; .* utf-16-le", settings={"encoding": "utf-16"}
    ),
    Text("odd.txt", RUSSIAN.encode("utf-16")[:-1], error="odd.txt is not UTF-16 text: byte 0x"),
    Text("colours.log", b"\x1b[31mred\x1b[0m" * 2, "\x1b[31mred\x1b[0m" * 2, warnings=("4 control characters",)),
    Text("comment.html", b"<!-- c -->\n<html>", "<!-- c -->\n<html>", warnings=("like HTML",)),
    Text("equal.txt", b"a\n" * 99, "\n".join("a" * 99), {"documents": "line"}),
    Text("stored.docx", archive("word/document.xml", content="text " * 9999), error="is a Word document"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILLM_CACHE", str(tmp_path / "cache"))


def decoded(prepared: TokenizedCorpus) -> str:
    return prepared.tokenizer.decode(prepared.whole.tokens[:].tolist())


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.file)
@pytest.mark.parametrize("vocab_size", [None, 257])
def test_a_text_is_read_as_meant_or_refused(tmp_path: Path, text: Text, vocab_size: int | None):
    file = tmp_path / text.file
    file.write_bytes(text.content)
    if text.error:
        with pytest.raises(ValueError, match=text.error) as caught:
            prepare(str(file), vocab_size=vocab_size, text_format=TextFormat(**text.settings))
        assert "\n" not in str(caught.value)
        return
    text_format = TextFormat(**text.settings)
    for _ in range(2):  # the second time from the cache
        prepared = prepare(str(file), vocab_size=vocab_size, text_format=text_format)
        assert len(prepared.warnings) == len(text.warnings), prepared.warnings
        for warning, pattern in zip(prepared.warnings, text.warnings, strict=True):
            assert re.search(pattern, warning), warning
        separator = "" if text_format.documents == "none" else "\n"
        assert decoded(prepared).replace(separator, "") == text.text.replace(separator, "")
    assert load_text(str(file), text_format) == text.text


def test_every_file_that_cannot_be_used_is_listed_with_a_pattern_that_leaves_them_out(tmp_path: Path):
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    for number in range(12):
        (folder / f"latin{number:02}.csv").write_bytes(b"caf\xe9")
    (folder / "deep" / "good.md").write_text("good")
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (folder / "memory").symlink_to("/proc/self/mem")
    with pytest.raises(ValueError, match="14 of 15 files cannot be used") as caught:
        prepare(str(folder))
    message = str(caught.value)
    assert "a.png is a PNG image, not text; " in message
    assert "latin08.csv is not UTF-8 text" in message
    assert "latin09.csv" not in message
    assert message.endswith("; ...")
    assert f"'{folder}/**/*.md'" in message
    assert decoded(prepare(f"{folder}/**/*.md")) == "good"


def test_a_long_text_in_another_encoding_is_read_in_parallel(tmp_path: Path):
    file = tmp_path / "long.txt"
    content = RUSSIAN * 19_300  # 50 MB in UTF-16
    file.write_bytes(content.encode("utf-16"))
    prepared = prepare(str(file))
    assert prepared.whole.num_chars == len(content) == len(prepared.whole.tokens)
    assert prepared.tokenizer.decode(prepared.val.tokens[-1000:].tolist()) == content[-1000:]
    assert prepared.warnings == []


def test_no_pattern_is_suggested_that_leaves_no_bad_file_out(tmp_path: Path):
    for name, content in (("a.txt", b"good"), ("b.txt", b"caf\xe9"), ("c.txt", b"good")):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"1 of 3 files cannot be used \(convert them, or move them elsewhere\): "):
        prepare(str(tmp_path))


def test_linked_folders_are_read_once_and_broken_links_are_named(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("inside")
    (tmp_path / "corpus" / "deep").mkdir(parents=True)
    (tmp_path / "corpus" / "link").symlink_to("../real")
    (tmp_path / "corpus" / "deep" / "back").symlink_to("..")
    assert load_text(str(tmp_path / "corpus")) == "inside"
    (tmp_path / "corpus" / "broken.txt").symlink_to("missing")
    with pytest.raises(ValueError, match=r"broken.txt is a broken link or a special file"):
        load_text(str(tmp_path / "corpus"))


@pytest.mark.parametrize(
    ("text", "normal_form"),
    [
        ("plain", None),
        ("caf\xe9", "NFC"),
        ("cafe\u0301", "NFD"),
        ("caf\xe9 cafe\u0301", None),
        ("\u2126 caf\xe9", None),  # the ohm sign, which NFC makes an omega
        ("\u0958 \xe9", None),  # excluded from composition
        ("\u05d2\u05bc\u05b8 \xe9", None),  # marks in the order of typing, which NFC changes
        ("\u05d2\u05b8\u05bc \xe9", "NFC"),
        ("и\u0301 й", "NFC"),  # a stress mark that composes with nothing
    ],
)
def test_the_normal_form_is_that_of_the_whole_text(tmp_path: Path, text: str, normal_form: str | None):
    file = tmp_path / "text.txt"
    file.write_text(f"{text}\n" * 3, encoding="utf-8")
    tokenizer = prepare(str(file)).tokenizer
    assert tokenizer.normal_form == normal_form
    assert normalize_prompt(text, tokenizer) == text


def test_empty_files_are_no_documents(tmp_path: Path):
    for name, text in (("a.txt", "one"), ("b.txt", ""), ("c.txt", "two")):
        (tmp_path / name).write_text(text)
    assert open_corpus(str(tmp_path), TextFormat(documents="file")).documents() == ["one", "two"]
