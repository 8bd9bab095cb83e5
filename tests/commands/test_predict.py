import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.commands import samples
from minillm.generation.sampling_params import SamplingParams
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_smoke_run(in_smoke_run: Path):
    """Run every test in a working folder with a trained model."""


def test_stdout_is_only_the_generated_text_and_a_seed_reproduces_it(minillm: Run):
    arguments = (
        "predict",
        "--ckpt_path",
        "best",
        "--prompt",
        "ROMEO:",
        "--max_new_tokens",
        50,
        "--top_k",
        40,
        "--seed",
        1,
    )
    code, out, err = minillm(*arguments)
    assert (code, len(out)) == (0, 50)
    assert "--seed 1" in err
    assert minillm(*arguments) == (code, out, err)


def test_replay_command_on_stderr_generates_the_same_text(minillm: Run):
    code, out, err = minillm(
        "predict", "--prompt=-it's\n", "--max_new_tokens", 40, "--top_p", 0.9, "--stop", "q", "--stop", "zz z"
    )
    command = err.split("minillm ", 1)[1].split("  # memorization check")[0]
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    replay = words.stdout.split("\0")[:-1]
    assert minillm(*replay)[:2] == (code, out)


def test_samples_have_consecutive_seeds_and_can_be_generated_individually(minillm: Run, tmp_path: Path):
    output = tmp_path / "samples.jsonl"
    code, out, err = minillm(
        "predict", "--prompt", "A", "--max_new_tokens", 20, "--num_samples", 3, "--seed", 7, "--output", output
    )
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert code == 0
    assert out == "".join(f"{line['text']}\n" for line in lines)
    assert [line["seed"] for line in lines] == [7, 8, 9]
    assert err.count("\n") == 3
    assert all(line["longest_copy"] == "" for line in lines)
    assert minillm("predict", "--prompt", "A", "--max_new_tokens", 20, "--seed", 8)[1] == lines[1]["text"]


def test_prompt_file_has_one_prompt_per_line(minillm: Run, tmp_path: Path):
    (tmp_path / "prompts.txt").write_text("ROMEO:\n\nJULIET:\n", encoding="utf-8")
    output = tmp_path / "samples.jsonl"
    minillm("predict", "--prompt_file", tmp_path / "prompts.txt", "--max_new_tokens", 5, "--output", output)
    assert [json.loads(line)["prompt"] for line in output.read_text().splitlines()] == ["ROMEO:", "JULIET:"]


def test_prompt_is_read_from_stdin_by_default(minillm: Run, monkeypatch: pytest.MonkeyPatch):
    expected = minillm("predict", "--prompt", "O, ", "--max_new_tokens", 20, "--seed", 3)[1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"O, ")))
    assert minillm("predict", "--max_new_tokens", 20, "--seed", 3)[1] == expected


def test_long_prompt_is_accepted_and_left_out_of_the_replay_command(minillm: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"O" * 10_000_000)))
    code, out, err = minillm("predict", "--max_new_tokens", 5)
    assert (code, len(out)) == (0, 5)
    assert len(err) < 500


def test_full_disk_on_stdout_is_a_one_line_error():
    command = f"{shlex.quote(sys.executable)} -m minillm predict --prompt A --max_new_tokens 5 > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "minillm: error: stdout: No space left on device"


def test_closed_pipe_is_not_an_error(in_smoke_run: Path):
    command = f"{shlex.quote(sys.executable)} -m minillm predict --prompt A --max_new_tokens 3000 | head -c 3"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stdout)) == (0, 3)
    assert "Error" not in done.stderr


def test_closed_stdin_is_an_empty_prompt_and_closed_stdout_an_error():
    predict = f"{shlex.quote(sys.executable)} -m minillm predict --max_new_tokens 5"
    done = subprocess.run(["bash", "-c", f"{predict} <&-"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stdout)) == (0, 5)
    done = subprocess.run(["bash", "-c", f"{predict} >&-"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "minillm: error: stdout is closed: redirect it to a file or a pipe\n")


def test_stdout_is_only_the_generated_text_with_a_closed_stderr():
    predict = f"{shlex.quote(sys.executable)} -m minillm predict --prompt A --max_new_tokens 5 2>&-"
    done = subprocess.run(["bash", "-c", predict], stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, len(done.stdout)) == (0, 5)


def test_full_disk_on_output_file_is_a_one_line_error():
    predict = f"{shlex.quote(sys.executable)} -m minillm predict --prompt A --max_new_tokens 3000 --output cut.jsonl"
    done = subprocess.run(["bash", "-c", f"ulimit -f 1; {predict}"], capture_output=True, text=True, timeout=60)
    Path("cut.jsonl").unlink()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("minillm: error: ")


def test_characters_missing_in_the_encoding_of_stdout_are_escaped(minillm: Run):
    Path("text.txt").write_text("ä" * 2000, encoding="utf-8")
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", "--data.corpus", "text.txt")[0] == 0
    predict = [sys.executable, "-m", "minillm", "predict", "--prompt", "ä", "--max_new_tokens", "2"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(predict, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (0, r"\xe4\xe4")


def test_longest_verbatim_match_with_the_training_text_is_reported(minillm: Run, tmp_path: Path):
    text = minillm("predict", "--prompt", "A", "--max_new_tokens", 60, "--seed", 3)[1]
    (tmp_path / "text.txt").write_text(f"something else {text[10:40]}| and more" + "." * 20)
    flags = ("--prompt", "A", "--max_new_tokens", 60, "--seed", 3, "--output", tmp_path / "out.jsonl")
    _, _, err = minillm("predict", *flags, "--corpus", tmp_path / "text.txt")
    assert f"memorization check: longest verbatim match with the training text: 30 characters, {text[10:40]!r}" in err
    assert json.loads((tmp_path / "out.jsonl").read_text())["longest_copy"] == text[10:40]


def test_missing_training_text_is_reported_once(minillm: Run, own_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(own_folder)
    path = Path("text.txt")
    path.write_text("What is written here?\n" * 40)
    minillm("fit", "--config", CONFIGS / "smoke.yaml", "--data.corpus", "text.txt")
    path.unlink()
    code, _, err = minillm("predict", "--prompt", "W", "--max_new_tokens", 20, "--num_samples", 2)
    assert code == 0, err
    assert err.count("memorization check skipped: corpus 'text.txt' does not exist") == 1


@pytest.mark.parametrize(
    ("on_unknown", "prompt", "action"), [("skip", "caf", "skipped"), ("replace", "cafe", "replaced")]
)
def test_unknown_characters_can_be_skipped_or_replaced(minillm: Run, on_unknown: str, prompt: str, action: str):
    flags = ("--max_new_tokens", 20, "--seed", 1)
    code, out, err = minillm("predict", "--prompt", "café", "--on_unknown", on_unknown, *flags)
    assert f"{action} characters outside the vocabulary: 'é'" in err
    assert (code, out) == minillm("predict", "--prompt", prompt, *flags)[:2]
    assert f"--prompt={prompt}" in err  # replay command


def test_changed_training_text_is_reported(own_folder: Path, minillm: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(own_folder)
    path = Path("text.txt")
    path.write_text("What is written here?\n" * 40)
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", "--data.corpus", "text.txt")[0] == 0
    predict = ("predict", "--prompt", "W", "--max_new_tokens", 5)
    assert "has changed" not in minillm(*predict)[2]
    path.write_text("What is written here?\n" * 41)
    message = "memorization check: corpus 'text.txt' has changed since the model was trained\n"
    assert message in minillm(*predict)[2]
    assert message not in minillm(*predict, "--corpus", "text.txt")[2]


def test_a_line_of_the_output_is_one_line_to_every_reader(tmp_path: Path):
    prompt, text = "a\u2028b\x85", "é\u2029\n\u2028"
    params = SamplingParams(5, 1.0, None, None, 0, ())
    with (tmp_path / "samples.jsonl").open("wb", buffering=0) as output:
        samples._write_json_line(output, Path("best.ckpt"), samples.Sample(prompt, params), text, None)
    (line,) = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert "é" in line
    assert (json.loads(line)["prompt"], json.loads(line)["text"]) == (prompt, text)


def test_two_dashes_can_be_a_prompt_and_a_stop_string(minillm: Run):
    code, out, err = minillm("predict", "--prompt=--", "--max_new_tokens", 40, "--seed", 1, "--stop=--")
    assert code == 0
    assert "--" not in out
    assert "--prompt=-- " in err
    assert "--stop=--" in err
    code, out, err = minillm("predict", "--top_k=--")
    assert (code, out) == (2, "")
    assert "invalid int value: '--'" in err
