"""`predict`: generated text to stdout as it is made, everything else to stderr."""

import argparse
import json
import os
import random
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from io import RawIOBase
from pathlib import Path

from minillm.errors import OneLineErrors, exit_on_wrong_input
from minillm.generation.settings import Settings

SHOWN = 1000  # characters: a longer prompt is not repeated on stderr


@dataclass(frozen=True)
class Sample:
    """One text to make: what it continues, and with which seed."""

    prompt: str
    settings: Settings


def run(args: list[str]) -> None:
    """Run `predict`.

    Args:
        args: The command line, from the subcommand on.
    """
    options = _parser().parse_args(args[1:])
    with ExitStack() as stack:
        with exit_on_wrong_input():
            samples = list(_samples(options))
            from minillm.generation.checkpoint import find, load  # only now: importing torch takes a second
            from minillm.generation.generate import encode_prompt, generate

            path = find(options.ckpt_path)
            model, tokenizer = load(path)
            for sample in samples:
                encode_prompt(tokenizer, sample.prompt)
            output = stack.enter_context(options.output.open("xb", buffering=0)) if options.output else None
        try:
            for number, sample in enumerate(samples, 1):
                print(f"[{number}/{len(samples)}] {_replay(path, sample)}", file=sys.stderr)
                text = _show(sample, generate(model, tokenizer, sample.prompt, **asdict(sample.settings)))
                if len(samples) > 1 or sys.stdout.isatty():
                    print()
                if output is not None:
                    with exit_on_wrong_input():  # a full disk, say
                        _record(output, path, sample, text)
        except BrokenPipeError:  # whoever reads stdout has seen enough; there is nowhere left to flush to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    add("--max_new_tokens", type=int, default=Settings.max_new_tokens, help="most tokens to make")
    add("--temperature", type=float, default=Settings.temperature, help="below 1 is tamer; 0 takes the likeliest token")
    add("--top_k", type=int, default=Settings.top_k, help="choose among this many likeliest tokens")
    add("--top_p", type=float, default=Settings.top_p, help="choose among the likeliest that reach this probability")
    add("--stop", action="append", default=[], help="end before this string; may be given more than once")
    add("--num_samples", type=int, default=1, help="texts to make of each prompt, with seeds that follow each other")
    add("--seed", type=int, default=Settings.seed, help="the same seed gives the same text")
    add("--output", type=Path, help="also write the samples to this new file, as a line of JSON each")
    return parser


class _Parser(OneLineErrors, argparse.ArgumentParser):
    pass


def _samples(options: argparse.Namespace) -> Iterator[Sample]:
    """The texts that are asked for."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    settings = Settings(**{name: getattr(options, name) for name in names}, seed=seed, stop=tuple(options.stop))
    if options.num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {options.num_samples}")
    for prompt in _prompts(options):
        for number in range(options.num_samples):
            yield Sample(prompt, replace(settings, seed=seed + number))


def _prompts(options: argparse.Namespace) -> list[str]:
    if options.prompt is not None:
        return [options.prompt]
    if options.prompt_file is not None:
        prompts = [line for line in _decode(options.prompt_file.read_bytes(), options.prompt_file).splitlines() if line]
        if not prompts:
            raise ValueError(f"{options.prompt_file} holds no prompt: write one on each line")
        return prompts
    return ["" if sys.stdin.isatty() else _decode(sys.stdin.buffer.read(), "stdin")]


def _decode(content: bytes, source: object) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 text: byte 0x{content[error.start]:02x} at {error.start}") from error


def _show(sample: Sample, pieces: Iterator[str]) -> str:
    """Stream a text to stdout; a person at a terminal also sees the prompt before it."""
    if sys.stdout.isatty():
        print(sample.prompt[-SHOWN:], end="", file=sys.stderr, flush=True)
    made = []
    for piece in pieces:
        print(piece, end="", flush=True)
        made.append(piece)
    return "".join(made)


def _record(output: RawIOBase, path: Path, sample: Sample, text: str) -> None:
    line = {"ckpt_path": str(path), "prompt": sample.prompt, "text": text, **asdict(sample.settings)}
    output.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())


def _replay(path: Path, sample: Sample) -> str:
    """The command that makes this text again."""
    settings = asdict(sample.settings)
    stops = settings.pop("stop")
    flags = {"ckpt_path": path, **{name: value for name, value in settings.items() if value is not None}}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += [word for stop in stops for word in ("--stop", stop)]
    if len(sample.prompt) > SHOWN:
        return f"minillm predict {shlex.join(words)}  # with the same prompt on stdin"
    return f"minillm predict {shlex.join(['--prompt', sample.prompt, *words])}"
