"""`predict --interactive` in a terminal."""

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from minillm.commands.interactive import change_setting, read_prompts
from minillm.generation.sampling_params import SamplingParams


class Terminal:
    """A pseudo-terminal with a running command."""

    def __init__(self, *flags: str) -> None:
        self.file, inside = pty.openpty()
        command = [sys.executable, "-m", "minillm", "predict", "--interactive", *flags]
        environment = {**os.environ, "TERM": "dumb"}
        self.process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=environment)
        os.close(inside)
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def read_until(self, pattern: str) -> str:
        """Read until the output matches a pattern at its end."""
        shown = ""
        end = time.monotonic() + 60
        while not re.search(pattern + r"\Z", shown):
            assert time.monotonic() < end, shown[:500]
            assert select.select([self.file], [], [], 30)[0], shown[-500:]
            shown += self.decoder.decode(os.read(self.file, 2**16)).replace("\r", "")
        return shown

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())


@pytest.fixture
def terminal(in_smoke_run: Path) -> Generator[Terminal]:
    terminal = Terminal("--seed", "5", "--max_new_tokens", "20")
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.file)


def test_prompts_and_settings_are_read_from_the_terminal(terminal: Terminal):
    assert "Ctrl-D ends" in terminal.read_until("> ")
    terminal.type("ROMEO:\n")
    first = terminal.read_until("\n> ")
    assert "[1] minillm predict --prompt=ROMEO: " in first
    assert "--seed 5" in first
    terminal.type("/temperature 0\n")
    terminal.read_until("> ")
    terminal.type("ROMEO:\n")
    second = terminal.read_until("\n> ")
    assert "--temperature 0.0" in second
    assert "--seed 6" in second
    terminal.type("é\n")
    assert "'é' (U+00E9) at position 0 of 'é' is not in the vocabulary" in terminal.read_until("\n> ")
    terminal.type("/temperatur 1\n")
    assert "minillm: error: unknown setting /temperatur; choose from" in terminal.read_until("\n> ")
    terminal.type("/max_new_tokens 1000000\n")
    terminal.read_until("> ")
    terminal.type("A\n")
    terminal.read_until("(?s)A.{100,}")
    terminal.process.send_signal(signal.SIGINT)  # as Ctrl-C does
    assert re.search(r"\n\[3\] minillm .* --seed 8$", terminal.read_until("\n> "), re.MULTILINE)
    terminal.type("\x04")  # Ctrl-D
    assert terminal.process.wait(60) == 0
    with suppress(OSError):  # EIO on Linux when the other side has closed
        assert "Traceback" not in os.read(terminal.file, 2**16).decode()


def test_ctrl_c_at_the_prompt_asks_again(monkeypatch: pytest.MonkeyPatch):
    answers = iter([KeyboardInterrupt, "A", "", "B", KeyboardInterrupt, EOFError])

    def read(prompt: str) -> str:
        answer = next(answers)
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    found = list(read_prompts(SamplingParams(seed=3)))
    assert [(prompt, params.seed) for prompt, params in found] == [("A", 3), ("B", 4)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/temperature 0.5", {"temperature": 0.5}),
        ("/top_k  3 ", {"top_k": 3}),
        ("/top_k none", {"top_k": None}),
        ("/seed 9", {"seed": 9}),
        ("/stop a b", {"stop": ("x", "a b")}),
        ("/stop \\n", {"stop": ("x", "\n")}),
        ("/stop", {"stop": ()}),
        ("/settings", {}),
    ],
)
def test_setting_is_changed(line: str, expected: dict[str, object]):
    params = SamplingParams(top_k=7, stop=("x",))
    assert change_setting(params, line) == SamplingParams(**{"top_k": 7, "stop": ("x",), **expected})  # pyright: ignore


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/", "unknown setting /; choose from /temperature"),
        ("/top 3", "unknown setting /top; choose"),
        ("/top_k", "/top_k must be followed by a number, got ''"),
        ("/top_k 2.5", "/top_k must be followed by a number, got '2.5'"),
        ("/top_k 0", "top_k must be at least 1"),
        ("/temperature none", "/temperature must be followed by a number, got 'none'"),
        ("/seed -1", "seed must be at least 0"),
    ],
)
def test_wrong_setting_is_refused(line: str, message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        change_setting(SamplingParams(), line)
