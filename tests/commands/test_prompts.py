import json
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.commands.escapes import escape, unescape
from tests.serve.client import ask
from tests.serve.conftest import serving

Run = Callable[..., tuple[int, str, str]]
PREDICT = ("predict", "--max_new_tokens", 30, "--seed", 4)


@given(st.text())
def test_unescape_undoes_escape(text: str):
    assert unescape(escape(text)) == text


def test_escape_sequences_are_those_that_are_documented():
    assert unescape(r"a\n\t\0\\n\d") == "a\n\t\0\\n\\d"


def test_line_breaks_of_windows_are_newlines_in_every_prompt(minillm: Run, tmp_path: Path, in_smoke_run: Path):
    expected = minillm(*PREDICT, "--prompt", "ROMEO:\nO")
    assert minillm(*PREDICT, "--prompt", "ROMEO:\r\nO")[:2] == expected[:2]
    (tmp_path / "prompts.txt").write_bytes(b"ROMEO:\r\nJULIET:\r\n")
    minillm(*PREDICT, "--prompt_file", tmp_path / "prompts.txt", "--output", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["ROMEO:", "JULIET:"]
    with serving() as address:
        texts = [
            json.loads(ask(address, body={"prompt": prompt, "echo": True, "seed": 1})[2])["choices"][0]["text"]
            for prompt in ("ROMEO:\r\nO", "ROMEO:\nO")
        ]
    assert texts[0] == texts[1]


def test_a_prompt_may_be_in_an_encoding_with_a_byte_order_mark(
    minillm: Run, in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = minillm(*PREDICT, "--prompt", "O, ")[1]
    for encoding in ("utf-8-sig", "utf-16"):
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("O, ".encode(encoding))))
        assert minillm(*PREDICT)[:2] == (0, expected)


def test_a_stop_string_may_be_typed_with_escape_sequences(minillm: Run, in_smoke_run: Path):
    whole = minillm(*PREDICT, "--prompt", "A", "--max_new_tokens", 300)[1]
    assert "\n" in whole
    code, out, err = minillm(*PREDICT, "--prompt", "A", "--max_new_tokens", 300, "--stop", r"\n")
    assert (code, out) == (0, whole.partition("\n")[0])
    assert r"'--stop=\n'" in err  # of the replay command


def test_a_stop_string_that_never_occurs_is_reported(minillm: Run, in_smoke_run: Path):
    code, _, err = minillm(*PREDICT, "--prompt", "A", "--stop", "Ende\u0301!", "--stop", "B")
    assert code == 0
    assert err.count("never occurs") == 1
    assert "stop string 'Ende\u0301!' never occurs: not in the vocabulary: 'e\u0301'\n" in err


@pytest.mark.parametrize(("separator", "written"), [("\\n", "\n"), ("\\0", "\0"), ("==", "=="), ("", "")])
def test_samples_are_separated_by_the_separator(minillm: Run, in_smoke_run: Path, separator: str, written: str):
    one = minillm(*PREDICT, "--prompt", "A")[1]
    two = minillm("predict", "--max_new_tokens", 30, "--seed", 5, "--prompt", "A")[1]
    _, out, err = minillm(*PREDICT, "--prompt", "A", "--num_samples", 2, f"--separator={separator}")
    assert out == f"{one}{written}{two}{written}"
    assert err.count("\n") == 2


def test_a_prompt_of_several_lines_is_replayed_in_one(minillm: Run, in_smoke_run: Path):
    _, out, err = minillm(*PREDICT, "--prompt", "ROMEO:\nO'er")
    assert err.count("\n") == 1
    command = err.partition("] ")[2].partition("  #")[0]
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m {command}"], capture_output=True, text=True, check=True)
    assert done.stdout == out


def test_a_sequence_of_emoji_is_one_unknown_character(refused: Callable[..., str], in_smoke_run: Path):
    family = "\U0001f469\u200d\U0001f467"
    error = refused(*PREDICT, "--prompt", f"Hi {family}!")
    assert f"character {family!r} (U+1F469 U+200D U+1F467) at position 3 of " in error
