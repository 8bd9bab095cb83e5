import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.data.ngrams import ngram_bits

Run = Callable[..., tuple[int, str, str]]


def described(minillm: Run, *args: object) -> dict[str, str]:
    code, out, err = minillm("inspect", *args)
    assert (code, err) == (0, "")
    return {line[:11].strip(): line[12:] for line in out.splitlines()}


def test_a_text_is_described(tmp_path: Path, minillm: Run):
    file = tmp_path / "a.txt"
    line = "this line has more than forty characters in it"
    file.write_text(f"é{line}\n{line}\n{line}\n" + "ab\n" * 300, encoding="utf-16")
    lines = described(minillm, file)
    num_chars = 1 + 3 * (len(line) + 1) + 900
    assert lines["sources"] == f"1, with {2 * num_chars + 2:,} bytes in utf-16"
    assert lines["characters"] == f"{num_chars:,}, in 303 lines of up to 47"
    assert lines["alphabet"].startswith("18 characters, in normal form NFC: '\\n abcefhilmnorstyé'")
    assert f"'é' U+00E9, 1 times, in line 1 of {file}" in minillm("inspect", file)[1]
    assert lines["duplicates"].startswith(f"{100 * len(line) / num_chars:.1f} % ")
    assert (
        lines["split"]
        == f"{int(0.9 * num_chars):,} characters for training, {num_chars - int(0.9 * num_chars)} for validation"
    )
    assert lines["begin with"] == f"minillm fit --config finetune --init_from best --data.corpus {file}"


def test_documents_are_described(tmp_path: Path, minillm: Run):
    file = tmp_path / "names.txt"
    file.write_text("ann\nbob\nann\ncecilia\n")
    lines = described(minillm, file, "--documents", "line")
    assert lines["documents"] == "4, of 3 to 7 characters, median 3; 1 are duplicates"
    assert lines["begin with"].endswith(f"--data.corpus {file} --data.documents line")
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n{"body": "three"}\n')
    lines = described(minillm, tmp_path / "a.jsonl", "--documents", "file", "--text_field", "body")
    assert lines["documents"] == "2, of 3 to 5 characters, median 5; 0 are duplicates"


def test_baselines_of_a_random_text_are_its_entropy(tmp_path: Path):
    import random

    generator = random.Random(0)
    text = "".join(generator.choices("abcdefgh", k=200_000))
    bits = list(ngram_bits(text[:180_000], text[180_000:], 2))
    assert bits == pytest.approx([3, 3], abs=0.01)
    assert list(ngram_bits("ab" * 1000, "ab" * 500, 2))[1] == pytest.approx(0, abs=0.01)
    (unknown,) = ngram_bits("a" * 1000, "aab", 1)  # Witten-Bell: P(b) = (0 + 1/2) / 1001
    assert unknown == pytest.approx(-(math.log2(1000.5 / 1001) + math.log2(0.5 / 1001)) / 2)


def test_a_text_of_six_megabytes_is_described_in_seconds(tmp_path: Path, minillm: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("minillm.data.statistics.MAX_BASELINE_CHARS", 1_000_000)
    file = tmp_path / "long.txt"
    file.write_text("".join(f"line {n}, of {n * 7919 % 1000} and more\n" for n in range(200_000)))
    started = time.monotonic()
    lines = described(minillm, file)
    assert time.monotonic() - started < 30  # 2 s, plus the baselines of the first 1 MB
    assert lines["baselines"].endswith("bits per character (of the first 1,000,000)")
    assert lines["begin with"] == f"minillm fit --config laptop --data.corpus {file}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "the following arguments are required: text"),
        (("missing.txt",), "no corpus 'missing.txt'"),
        (("tinyshakespeare", "--encoding", "rot13"), "encoding 'rot13' is not a text encoding"),
        (("tinyshakespeare", "--documents", "page"), r"invalid choice: 'page'"),
        (("tinyshakespeare", "--encodin", "cp1252"), "unrecognized flag --encodin cp1252; did you mean --encoding[?]"),
        (("empty.txt",), "is empty"),
        (("a.png",), "a.png is a PNG image, not text"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    args: tuple[str, ...], message: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\0")
    assert re.search(message, refused("inspect", *args))


def test_records_are_places_of_json_lines(tmp_path: Path, minillm: Run):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b\\nb"}\n{"text": "c"}\n')
    out = minillm("inspect", file)[1]
    assert f"'c' U+0063, 1 times, in record 3 of {file}" in out
    assert "'\\n' U+000A, 4 times, in record 1" in out
    out = minillm("inspect", file, "--documents", "file")[1]
    assert f"'\\n' U+000A, 1 times, in document 2 of {file}" in out


def test_characters_missing_in_the_encoding_of_stdout_are_escaped(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("日本\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "minillm", "inspect", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
    assert r"'\n\u65e5\u672c'" in done.stdout
