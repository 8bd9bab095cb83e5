"""Samples of `predict`: generated in batches, streamed to stdout, compared with the training text, saved to a file."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from minillm.commands.escapes import escape
from minillm.commands.memorization_check import Memorization
from minillm.errors import exit_on_stdout_error, exit_on_wrong_input
from minillm.files import escape_line_separators
from minillm.generation.sampling_params import SamplingParams

if TYPE_CHECKING:
    from minillm.generation.batch_generator import BatchGenerator
    from minillm.generation.training_text import TrainingText

BATCH_SIZE = 64  # maximum number of samples generated together
ANSI_C_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: r"\n", 39: r"\'", 92: r"\\"}
MAX_ECHO_CHARACTERS = 1000  # a longer prompt is cut in a terminal and left out of the replay command


@dataclass(frozen=True)
class Sample:
    """A text to generate: its prompt and its sampling parameters, including its own seed."""

    prompt: str
    params: SamplingParams


@dataclass
class Session:
    """A loaded model, and where its texts go.

    Args:
        path: Path of the checkpoint.
        generator: Generator of the texts with the model.
        training_text: Text for the memorization check, if any.
        num_samples: Number of texts per prompt.
        total: Number of texts of the command; 0 if it is not known.
        separator: Written after each of several texts, except in a terminal.
        output: JSON Lines file, if any.
    """

    path: Path
    generator: BatchGenerator
    training_text: TrainingText | None
    num_samples: int
    total: int
    separator: str
    output: RawIOBase | None
    number: int = 0  # of texts so far
    num_copies: int = 0  # texts that are documents of the training text

    def generate(self, prompts: Sequence[str], params: SamplingParams) -> None:
        """Generate the texts of prompts in batches, and stream them one after another."""
        from minillm.generation.batch_generator import Batch  # imported late, to keep --help fast

        num_processes, first_seed = self.generator.num_processes, params.seed or 0
        size = min(BATCH_SIZE, math.ceil(self.num_samples * len(prompts) / num_processes))
        seeds = range(first_seed, first_seed + self.num_samples)
        batches = [Batch(prompt, seeds[n : n + size]) for prompt in prompts for n in range(0, self.num_samples, size)]
        for n in range(0, len(batches), num_processes):
            running = batches[n : n + num_processes]
            for batch, chunks in zip(running, self.generator.generate(running, params), strict=True):
                samples = [Sample(batch.prompt, replace(params, seed=seed)) for seed in batch.seeds]
                for sample, pieces in zip(samples, _demultiplex(chunks, len(samples)), strict=True):
                    self._write(sample, pieces)

    def report_novelty(self) -> None:
        """Print how many of several texts are not documents of the training text, if it has documents."""
        if self.number > 1 and self.training_text is not None and self.training_text.has_documents:
            num_new = self.number - self.num_copies
            copies = f"{self.num_copies} are documents of the training text"
            print(f"{num_new} of {self.number} samples are new, {copies}", file=sys.stderr)

    def _write(self, sample: Sample, pieces: Iterator[str]) -> None:
        self.number += 1
        number = f"{self.number}/{self.total}" if self.total else str(self.number)
        notes = ["with the same prompt on stdin"] if len(sample.prompt) > MAX_ECHO_CHARACTERS else []
        memorization = None
        try:
            text = self._stream(sample, pieces)
            if self.training_text is not None:
                memorization = Memorization.of(sample.prompt, text, self.training_text)
                self.num_copies += memorization.is_training_document or False
                notes.append(f"memorization check: {memorization}")
        finally:  # also when it is interrupted
            command = _replay_command(self.path, sample)
            print(f"[{number}] {command}{'  # ' if notes else ''}{'; '.join(notes)}", file=sys.stderr)
        if self.output is not None:
            with exit_on_wrong_input():  # such as a full disk
                _write_json_line(self.output, self.path, sample, text, memorization)

    def _stream(self, sample: Sample, pieces: Iterator[str]) -> str:
        """Stream a generated text to stdout and return it; in a terminal, print the prompt to stderr before it.

        A terminal shows a newline after each text and an empty line between two; otherwise, the separator follows each
        of several texts.
        """
        terminal = sys.stdout.isatty()
        end = "\n" if terminal else "" if self.total == 1 else self.separator
        if terminal:
            between = "\n" if self.total and self.number > 1 else ""
            print(between + sample.prompt[-MAX_ECHO_CHARACTERS:], end="", file=sys.stderr, flush=True)
        generated: list[str] = []
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
                generated.append(piece)
            print(end=end, flush=True)
        except KeyboardInterrupt:
            print(end="\n" if terminal else "")
            raise
        except OSError as error:
            exit_on_stdout_error(error)
        return "".join(generated)


def _demultiplex(batch: Iterator[tuple[int, str]], num_samples: int) -> Iterator[Iterator[str]]:
    """Split the interleaved text pieces of a batch into one iterator per sample, to be consumed in order.

    Pieces of later samples are buffered while an earlier sample is streamed.
    """
    buffers: list[list[str]] = [[] for _ in range(num_samples)]

    def pieces_of(index: int) -> Iterator[str]:
        yield "".join(buffers[index])  # at once: each piece is flushed
        for number, piece in batch:
            if number == index:
                yield piece
            else:
                buffers[number].append(piece)

    return map(pieces_of, range(num_samples))


def _write_json_line(
    output: RawIOBase, path: Path, sample: Sample, text: str, memorization: Memorization | None
) -> None:
    result = {"ckpt_path": str(path), "prompt": sample.prompt, "text": text}
    copied = {
        "longest_copy": memorization and memorization.match,
        "is_training_document": memorization and memorization.is_training_document,
    }
    line = {**result, **copied, **asdict(sample.params)}
    encoded = escape_line_separators(json.dumps(line, ensure_ascii=False))
    remaining = memoryview(f"{encoded}\n".encode(errors="backslashreplace"))
    while remaining:  # an unbuffered write may be partial, for example on a nearly full disk
        remaining = remaining[output.write(remaining) :]


def _quote(word: str) -> str:
    """Quote a word for a shell, in one line."""
    quoted = word.translate(ANSI_C_ESCAPES)
    return shlex.quote(word) if word.isprintable() else f"$'{quoted}'"


def _replay_command(path: Path, sample: Sample) -> str:
    """Return the command that generates the same text again; it has no prompt if that is long."""
    params = asdict(sample.params)
    stops = params.pop("stop")
    flags = {"ckpt_path": path, **{name: value for name, value in params.items() if value is not None}}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += [f"--stop={escape(stop)}" for stop in stops]
    if len(sample.prompt) > MAX_ECHO_CHARACTERS:
        return f"minillm predict {' '.join(map(_quote, words))}"
    return f"minillm predict {' '.join(map(_quote, [f'--prompt={sample.prompt}', *words]))}"
