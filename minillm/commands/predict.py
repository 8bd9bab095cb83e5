"""`predict`: generated text to stdout as it is made, everything else to stderr."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from io import RawIOBase, TextIOWrapper
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from minillm.errors import OneLineErrors, exit_on_wrong_input, fail
from minillm.generation.sampling_params import SamplingParams

if TYPE_CHECKING:
    from minillm.tokenizer import Tokenizer

BATCH_SIZE = 64  # samples that are made at the same time
ON_UNKNOWN = "what to do about characters of the prompt that the model does not know; replace: by the nearest it knows"
MAX_ECHO_CHARACTERS = 1000  # characters: a longer prompt is not repeated on stderr


@dataclass(frozen=True)
class Sample:
    """One text to make: what it continues, and with which seed."""

    prompt: str
    settings: SamplingParams


def run(args: list[str]) -> None:
    """Run `predict`.

    Args:
        args: The command line, from the subcommand on.
    """
    options = _parser().parse_args(args[1:])
    if sys.stdout is None:
        fail("stdout is closed: there is nowhere to write to")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for what its encoding does not have
    with ExitStack() as stack:
        with exit_on_wrong_input():
            settings, prompts = _settings(options), _prompts(options)
            from minillm.checkpoint.find import find_checkpoint  # only now: --help needs none of it
            from minillm.generation.generate import encode_prompt, generate_batch
            from minillm.generation.load import load_numpy

            path = find_checkpoint(options.ckpt_path)
            decoder, tokenizer, data = load_numpy(path)
            learned = _training_text(data, options.corpus)
            if options.on_unknown != "error":
                prompts = [_readable(tokenizer, prompt, options.on_unknown) for prompt in prompts]
            for prompt in prompts:
                encode_prompt(tokenizer, prompt)
            output = stack.enter_context(options.output.open("xb", buffering=0)) if options.output else None
        number, total = 0, len(prompts) * options.num_samples
        for prompt, first in product(prompts, range(0, options.num_samples, BATCH_SIZE)):
            offsets = range(first, min(first + BATCH_SIZE, options.num_samples))
            samples = [Sample(prompt, replace(settings, seed=(settings.seed or 0) + offset)) for offset in offsets]
            made = generate_batch(decoder, tokenizer, prompt, settings, [sample.settings.seed for sample in samples])
            for sample, pieces in zip(samples, _one_after_another(made, len(samples)), strict=True):
                number += 1
                print(f"[{number}/{total}] {_replay_command(path, sample)}", file=sys.stderr)
                text = _show(sample, pieces, last=total == 1)
                copied = None if learned is None else _report_memorization(text, learned)
                if output is not None:
                    with exit_on_wrong_input():  # a full disk, say
                        _record(output, path, sample, text, copied)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minillm predict",
        description="Continue a prompt with a trained model. Without --prompt, stdin is the prompt.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ckpt_path", default="best", help="a checkpoint file, a run folder, or best or last of the newest run")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help="text to continue; an empty one starts a new line")
    prompt.add_argument("--prompt_file", type=Path, help="a UTF-8 file with a prompt on each line that is not empty")
    add("--max_new_tokens", type=int, default=SamplingParams.max_new_tokens, help="most tokens to make")
    add(
        "--temperature",
        type=float,
        default=SamplingParams.temperature,
        help="below 1 is tamer; 0 takes the likeliest token",
    )
    add("--top_k", type=int, default=SamplingParams.top_k, help="choose among this many likeliest tokens")
    add(
        "--top_p",
        type=float,
        default=SamplingParams.top_p,
        help="choose among the likeliest that reach this probability",
    )
    add("--stop", action="append", default=[], help="end before this string; may be given more than once")
    add("--num_samples", type=int, default=1, help="texts to make of each prompt, with seeds that follow each other")
    add("--seed", type=int, default=SamplingParams.seed, help="the same seed gives the same text")
    add("--on_unknown", choices=("error", "skip", "replace"), default="error", help=ON_UNKNOWN)
    add("--corpus", help="the text that the model learned from, if it is not where it was, to look for copies in")
    add("--output", type=Path, help="also write the samples to this new file, as a line of JSON each")
    return parser


class _Parser(OneLineErrors, argparse.ArgumentParser):
    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Leave with exit code 2; of a flag that is none, say which is meant."""
        wrong = re.match(r"unrecognized arguments: (--[^ =]+)", message)
        flags = re.findall(r"--\w+", self.format_help())
        nearest = difflib.get_close_matches(wrong[1], flags, n=1) if wrong else []
        super().error(f"{message}: did you mean {nearest[0]}?" if nearest else message)


def _settings(options: argparse.Namespace) -> SamplingParams:
    """The settings of the first sample; without a seed, one is drawn."""
    if options.num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {options.num_samples}")
    names = ("max_new_tokens", "temperature", "top_k", "top_p")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    settings = SamplingParams(**{name: getattr(options, name) for name in names}, seed=seed, stop=tuple(options.stop))
    replace(settings, seed=seed + options.num_samples - 1)  # the last seed has to be one too
    return settings


def _prompts(options: argparse.Namespace) -> list[str]:
    if options.prompt is not None:
        return [_decode(os.fsencode(options.prompt), "--prompt")]
    if options.prompt_file is not None:
        lines = _decode(options.prompt_file.read_bytes(), options.prompt_file).replace("\r\n", "\n").split("\n")
        prompts = [line for line in lines if line]
        if not prompts:
            raise ValueError(f"{options.prompt_file} holds no prompt: write one on each line")
        return prompts
    if sys.stdin is None or sys.stdin.isatty():  # None: closed
        return [""]
    return [_decode(sys.stdin.buffer.read(), "stdin")]


def _decode(content: bytes, source: object) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 text: byte 0x{content[error.start]:02x} at {error.start}") from error


def _one_after_another(made: Iterator[tuple[int, str]], count: int) -> Iterator[Iterator[str]]:
    """Texts that grow at the same time, to be read one after the other: the first as it is made, the others later."""
    waiting: list[list[str]] = [[] for _ in range(count)]

    def pieces_of(turn: int) -> Iterator[str]:
        yield from waiting[turn]
        for number, piece in made:
            if number == turn:
                yield piece
            else:
                waiting[number].append(piece)

    return map(pieces_of, range(count))


def _show(sample: Sample, pieces: Iterator[str], last: bool) -> str:
    """Stream a text to stdout; a person at a terminal also sees the prompt before it.

    Args:
        sample: What the text belongs to.
        pieces: The text.
        last: Whether nothing follows that has to be set apart from it.

    Returns:
        The text.
    """
    terminal = sys.stdout.isatty()
    if terminal:
        print(sample.prompt[-MAX_ECHO_CHARACTERS:], end="", file=sys.stderr, flush=True)
    made: list[str] = []
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
            made.append(piece)
        if terminal or not last:
            print(flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if isinstance(error, BrokenPipeError):  # whoever reads stdout has seen enough
            sys.exit(0)
        fail(f"stdout: {error.strerror}")
    return "".join(made)


def _training_text(data: dict[str, Any], corpus: str | None) -> bytes | None:
    """The text that the model was trained on, in UTF-8; None, and a line that says so, if it is not here.

    Args:
        data: The settings of the data, as a checkpoint holds them.
        corpus: Where that text is now, according to --corpus; None: where it was.
    """
    from minillm.data.corpus import TRAIN_FRACTION, load_text, may_read_unasked

    name = data.get("corpus") if corpus is None else corpus
    if corpus is None and (name is None or not may_read_unasked(name)):
        why = f"corpus {name!r} is not here, or it is a folder, a pattern or very large; --corpus says where it is"
        print(f"copies are not looked for: {why}", file=sys.stderr)
        return None
    text = load_text(str(name))
    return (text if data.get("val_corpus") else text[: int(TRAIN_FRACTION * len(text))]).encode()


def _report_memorization(text: str, learned: bytes) -> str:
    """Report the longest run of a text that stands in the training text."""
    from minillm.generation.memorization import SHORTEST, longest_verbatim_match

    run = longest_verbatim_match(text, learned)
    what = f"{len(run)} characters, {run!r}" if run else f"fewer than {SHORTEST} characters"
    print(f"longest run that stands in the training text: {what}", file=sys.stderr)
    return run


def _readable(tokenizer: Tokenizer, prompt: str, on_unknown: str) -> str:
    """The prompt, without what the tokenizer does not know; says so."""
    readable = tokenizer.handle_unknown(prompt, replace=on_unknown == "replace")
    if readable != prompt:
        unknown = sorted({character for character in prompt if not tokenizer.handle_unknown(character)})
        done = "skipped" if on_unknown == "skip" else "replaced"
        print(f"{done}, as the model does not know them: {' '.join(map(repr, unknown))}", file=sys.stderr)
    return readable


def _record(output: RawIOBase, path: Path, sample: Sample, text: str, copied: str | None) -> None:
    """Write a line of JSON."""
    about = {"ckpt_path": str(path), "prompt": sample.prompt, "text": text, "longest_copy": copied}
    line = {**about, **asdict(sample.settings)}
    record = memoryview(f"{json.dumps(line, ensure_ascii=False)}\n".encode(errors="backslashreplace"))
    while record:  # a disk that is nearly full takes a part
        record = record[output.write(record) :]


def _replay_command(path: Path, sample: Sample) -> str:
    """The command that makes this text again."""
    settings = asdict(sample.settings)
    stops = settings.pop("stop")
    flags = {"ckpt_path": path, **{name: value for name, value in settings.items() if value is not None}}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += [f"--stop={stop}" for stop in stops]
    if len(sample.prompt) > MAX_ECHO_CHARACTERS:
        return f"minillm predict {shlex.join(words)}  # with the same prompt on stdin"
    return f"minillm predict {shlex.join([f'--prompt={sample.prompt}', *words])}"
