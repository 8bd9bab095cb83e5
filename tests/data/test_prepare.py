import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minillm.data import prepare as module
from minillm.data import segments
from minillm.data.prepare import TokenizedCorpus, prepare
from minillm.tokenizer import BytePairTokenizer, CharTokenizer

TEXT = "".join(f"Line {n}: häuser,  at {n * 7919 % 1000} o'clock\n\n" for n in range(400))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINILLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tmp_path / "text.txt")


def read(prepared: TokenizedCorpus) -> tuple[str, str]:
    decode = prepared.tokenizer.decode
    return decode(prepared.train.tokens[:].tolist()), decode(prepared.val.tokens[:].tolist())


@pytest.mark.parametrize("vocab_size", [None, 300])
def test_the_first_90_percent_of_the_characters_are_the_training_split(corpus: str, vocab_size: int | None):
    prepared, split = prepare(corpus, vocab_size=vocab_size), int(0.9 * len(TEXT))
    assert read(prepared) == (TEXT[:split], TEXT[split:])
    assert (prepared.train.num_chars, prepared.val.num_chars) == (split, len(TEXT) - split)
    assert prepared.tokenizer.decode(prepared.whole.tokens[:].tolist()) == TEXT


def test_byte_pair_merges_are_learned_from_the_training_split_only(corpus: str):
    prepared = prepare(corpus, vocab_size=300)
    expected = BytePairTokenizer.from_text(TEXT[: int(0.9 * len(TEXT))], 300).state
    assert prepared.tokenizer.state == {**expected, "normal_form": "NFC"}


@pytest.mark.parametrize("vocab_size", [None, 300])
def test_chunks_and_processes_do_not_change_the_tokens(
    corpus: str, vocab_size: int | None, monkeypatch: pytest.MonkeyPatch
):
    expected = prepare(corpus, vocab_size=vocab_size)
    monkeypatch.setattr(module, "FORMAT_VERSION", "another")
    monkeypatch.setattr(segments, "CHUNK_CHARS", 1000)
    monkeypatch.setattr(module, "PARALLEL_THRESHOLD_BYTES", 1)
    actual = prepare(corpus, vocab_size=vocab_size)
    assert actual.tokenizer.state == expected.tokenizer.state
    assert actual.train.tokens[:].tolist() == expected.train.tokens[:].tolist()
    assert actual.val.tokens[:].tolist() == expected.val.tokens[:].tolist()


def test_the_cache_is_keyed_by_content_and_tokenization(corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = read(prepare(corpus))
    (tmp_path / "copy.txt").write_text(TEXT, encoding="utf-8")

    def tokenize(*arguments: object) -> None:
        raise AssertionError("not cached")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_tokenize", tokenize)
        assert read(prepare(str(tmp_path / "copy.txt"))) == first
        others: list[dict[str, Any]] = [{"vocab_size": 300}, {"tokenizer": CharTokenizer("ab")}]
        for tokenization in others:
            with pytest.raises(AssertionError):
                prepare(corpus, **tokenization)
    Path(corpus).write_text("x" + TEXT[1:], encoding="utf-8")
    assert read(prepare(corpus))[0].startswith("xine 0")


def test_token_ids_are_stored_in_the_smallest_integer_type(corpus: str, cache: Path):
    for vocab_size, dtype in ((None, np.uint8), (300, np.uint16)):
        prepared = prepare(corpus, vocab_size=vocab_size)
        files = sorted((cache / "tokens").glob("*/tokens.bin"), key=lambda file: file.stat().st_mtime_ns)
        assert files[-1].stat().st_size == len(prepared.whole.tokens) * np.dtype(dtype).itemsize


def test_documents_are_separated_by_the_end_of_text_token_if_there_is_one(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in (("a.txt", "one two"), ("b.txt", "one"), ("c.txt", ""), ("d.txt", "two two" * 4)):
        (folder / name).write_text(text)
    tokenizer = BytePairTokenizer.from_text("one two two", 260)
    prepared = prepare(str(folder), tokenizer)
    one, two, end = tokenizer.encode("one"), tokenizer.encode("one two"), tokenizer.end_of_text
    assert prepared.whole.tokens[:].tolist() == [
        *two,
        *end,
        *one,
        *end,
        *end,
        *prepared.whole.tokens[:].tolist()[len(one + two) + 3 :],
    ]
    assert prepare(str(folder)).whole.num_chars == len("one twoone" + "two two" * 4)
    assert "".join(read(prepare(str(folder)))) == "one twoone" + "two two" * 4


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_preparation_leaves_no_files(
    corpus: str, cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    def fsync(descriptor: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", fsync)
        with pytest.raises(type(error)):
            prepare(corpus)
    assert list((cache / "tokens").iterdir()) == []
    assert "".join(read(prepare(corpus))) == TEXT


def test_staging_folders_of_killed_processes_are_removed_after_a_day(corpus: str, cache: Path):
    for name, age in ((".old", 2 * 86400), (".new", 60)):
        (cache / "tokens" / name / "tokenized").mkdir(parents=True)
        modified = time.time() - age
        os.utime(cache / "tokens" / name, (modified, modified))
    prepare(corpus)
    assert {path.name for path in (cache / "tokens").glob(".*")} == {".new"}


@pytest.mark.parametrize("damage", ["tokens.bin", "about.json"])
def test_a_corrupted_cache_entry_is_rebuilt(corpus: str, cache: Path, damage: str):
    prepare(corpus)
    (file,) = (cache / "tokens").glob(f"*/{damage}")
    file.write_bytes(file.read_bytes()[:-1])
    assert "".join(read(prepare(corpus))) == TEXT


def test_a_corpus_is_tokenized_when_the_cache_is_not_writable(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINILLM_CACHE", str(tmp_path / "file" / "below"))
    assert "".join(read(prepare(corpus))) == TEXT


def test_an_invalid_byte_is_reported_with_its_file_and_offset(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("good")
    (folder / "b.txt").write_bytes("é".encode() * 1_500_000 + b"\xff!")
    with pytest.raises(ValueError, match=r"b.txt is not UTF-8 text: byte 0xff at offset 3000000"):
        prepare(str(folder))


def test_an_unreadable_file_of_a_folder_is_named(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("good")
    (tmp_path / "folder" / "b.txt").symlink_to("/proc/self/mem")
    with pytest.raises(ValueError, match=r"b.txt cannot be read: "):
        prepare(str(tmp_path / "folder"))


def test_processes_that_start_together_tokenize_a_text_once(corpus: str, cache: Path, tmp_path: Path):
    code = (
        "import sys; from minillm.data import prepare as module; original = module._tokenize\n"
        "def tokenize(*arguments):\n print('tokenizing'); return original(*arguments)\n"
        "module._tokenize = tokenize\n"
        "prepared = module.prepare(sys.argv[1])\nassert len(prepared.whole.tokens) == prepared.whole.num_chars > 0"
    )
    command = [sys.executable, "-c", code, corpus]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    assert [out for out, _ in results].count("tokenizing\n") == 1
    assert {err for _, err in results} <= {"", f"waiting for another process, which is tokenizing corpus {corpus!r}\n"}


def test_process_waits_for_another_one_that_tokenizes_the_same_text(
    corpus: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    calls: list[str] = []
    original = module._tokenize

    def tokenize(*arguments: Any) -> Any:
        calls.append("tokenize")
        if len(calls) == 1:
            thread.start()
            assert not second.wait(0.5)  # it is waiting
        return original(*arguments)

    second = threading.Event()
    thread = threading.Thread(target=lambda: (prepare(corpus), second.set()))
    monkeypatch.setattr(module, "_tokenize", tokenize)
    prepare(corpus)
    thread.join()
    assert calls == ["tokenize"]
    assert capfd.readouterr().err == f"waiting for another process, which is tokenizing corpus {corpus!r}\n"


def test_sha256_is_that_of_the_file_or_of_the_hashes_of_several(corpus: str, tmp_path: Path):
    one = hashlib.sha256(TEXT.encode()).hexdigest()
    assert prepare(corpus).sha256 == one
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "folder" / name).write_text(TEXT, encoding="utf-8")
    assert prepare(str(tmp_path / "folder")).sha256 == hashlib.sha256(f"{one}\n{one}".encode()).hexdigest()
