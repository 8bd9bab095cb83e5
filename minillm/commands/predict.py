"""`predict`: generate text. The text is streamed to stdout; all messages go to stderr."""

from __future__ import annotations

import argparse
import os
import random
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from minillm.commands.command_parser import CommandParser
from minillm.commands.device_flags import add_device_flags, chosen_device
from minillm.commands.escapes import unescape
from minillm.commands.interactive import read_prompts
from minillm.commands.memorization_check import read_training_text
from minillm.commands.samples import Session
from minillm.commands.unknown_characters import known_prompt, report_impossible_stops
from minillm.cpus import one_blas_thread
from minillm.errors import exit_on_wrong_input, fail
from minillm.generation.sampling_params import SamplingParams


def run(args: list[str]) -> None:
    """Run `predict`.

    Args:
        args: The command line, starting with the subcommand.
    """
    options = _parser().parse_args(args[1:])
    if sys.stdout is None:
        fail("stdout is closed: redirect it to a file or a pipe")
    with ExitStack() as stack:
        with exit_on_wrong_input():
            params, prompts = _sampling_params(options), [] if options.interactive else _prompts(options)
            with one_blas_thread():
                from minillm.checkpoint.find import find_checkpoint  # imported late, to keep --help fast
            from minillm.generation.batch_generator import BatchGenerator, cpu_generator
            from minillm.generation.load import load_numpy, load_torch

            device, path = chosen_device(options), find_checkpoint(options.ckpt_path)
            total = len(prompts) * options.num_samples  # 0 if it is not known
            if device is None:
                decoder, tokenizer, data = load_numpy(path)
                generator = cpu_generator(decoder, tokenizer, total, params.max_new_tokens)
            else:
                decoder, tokenizer, data = load_torch(path, device)
                generator = BatchGenerator(decoder, tokenizer)
            training_text = read_training_text(data, options.corpus)
            prompts = [known_prompt(tokenizer, prompt, options.on_unknown) for prompt in prompts]
            report_impossible_stops(tokenizer, params.stop)
            output = stack.enter_context(options.output.open("xb", buffering=0)) if options.output else None
        stack.enter_context(generator)
        separator = unescape(options.separator)
        session = Session(path, generator, training_text, options.num_samples, total, separator, output)
        session.generate(prompts, params)
        session.report_novelty()
        for prompt, changed in read_prompts(params) if options.interactive else ():
            try:
                session.generate([known_prompt(tokenizer, prompt, options.on_unknown)], changed)
            except ValueError as error:
                print(f"minillm: error: {error}", file=sys.stderr)
            except KeyboardInterrupt:  # ends this text only
                pass


def _parser() -> CommandParser:
    parser = CommandParser(
        "predict", "Continue a prompt with a trained model. By default, the prompt is read from stdin."
    )
    add = parser.add_argument
    add("--ckpt_path", default="best", help="a checkpoint file, a run folder, or best or last of the newest run")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help="text to continue; an empty prompt starts a new line")
    prompt.add_argument("--interactive", action="store_true", help="read prompts and settings from the terminal")
    prompt.add_argument("--prompt_file", type=Path, help="UTF-8 file with one prompt per line; empty lines are skipped")
    add("--max_new_tokens", type=int, default=SamplingParams.max_new_tokens, help="maximum number of generated tokens")
    add(
        "--temperature",
        type=float,
        default=SamplingParams.temperature,
        help="divisor of the logits: below 1 for less random text; 0 always chooses the likeliest token",
    )
    add("--top_k", type=int, default=SamplingParams.top_k, help="sample from the K likeliest tokens only")
    add(
        "--top_p",
        type=float,
        default=SamplingParams.top_p,
        help="nucleus sampling: sample from the likeliest tokens that reach this cumulative probability",
    )
    stop_help = r"stop string, at which the text ends; may be repeated; \n, \t, \0 and \\ are escape sequences"
    add("--stop", action="append", default=[], help=stop_help)
    add("--num_samples", type=int, default=1, help="number of samples per prompt, with consecutive seeds")
    add("--seed", type=int, default=SamplingParams.seed, help="random seed; the same seed generates the same text")
    add(
        "--on_unknown",
        choices=("error", "skip", "replace"),
        default="error",
        help="how to handle prompt characters outside the vocabulary; replace uses the most similar known one",
    )
    separator_help = "written after each of several samples, except in a terminal; escape sequences as in --stop"
    add("--separator", default=r"\n", help=separator_help)
    add("--corpus", help="training text for the memorization check; without it, the corpus named in the checkpoint")
    add_device_flags(parser)
    add("--output", type=Path, help="new file to which the samples are also written, as JSON Lines")
    return parser


def _sampling_params(options: argparse.Namespace) -> SamplingParams:
    """Return the sampling parameters of the first sample, with a random seed if none is given."""
    if options.num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {options.num_samples}")
    names = ("max_new_tokens", "temperature", "top_k", "top_p")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    params = SamplingParams(
        **{name: getattr(options, name) for name in names}, seed=seed, stop=tuple(map(unescape, options.stop))
    )
    replace(params, seed=seed + options.num_samples - 1)  # validates the last seed
    return params


def _prompts(options: argparse.Namespace) -> list[str]:
    if options.prompt is not None:
        return [_decode(os.fsencode(options.prompt), "--prompt")]
    if options.prompt_file is not None:
        lines = _decode(options.prompt_file.read_bytes(), options.prompt_file).replace("\r\n", "\n").split("\n")
        prompts = [line for line in lines if line]
        if not prompts:
            raise ValueError(f"{options.prompt_file} contains no prompt: write one prompt per line")
        return prompts
    if sys.stdin is None or sys.stdin.isatty():  # None: closed
        return [""]
    return [_decode(sys.stdin.buffer.read(), "stdin")]


def _decode(content: bytes, source: object) -> str:
    from minillm.data.text_files import marked_encoding

    try:
        return content.decode(marked_encoding(content) or "utf-8")
    except UnicodeDecodeError as error:
        byte, offset = content[error.start], error.start
        raise ValueError(
            f"{source} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}; convert it to UTF-8"
        ) from error
