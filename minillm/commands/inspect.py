"""`inspect`: describe a text before a model is trained on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, get_args

from minillm.commands.advice import first_command, text_advice
from minillm.commands.command_parser import CommandParser
from minillm.errors import exit_on_wrong_input

if TYPE_CHECKING:
    from minillm.data.corpus import Corpus
    from minillm.data.statistics import TextStatistics

MAX_ALPHABET_CHARS = 200  # shown
NUM_RAREST = 8  # shown
MAX_RARE = 10  # occurrences of a rare character


def run(args: list[str]) -> None:
    """Run `inspect`.

    Args:
        args: The command line, starting with the subcommand.
    """
    from minillm.data.text_files import TextFormat  # imported late, to keep --help of the other commands fast

    options = _parser().parse_args(args[1:])
    with exit_on_wrong_input():
        text_format = TextFormat(**{field.name: getattr(options, field.name) for field in fields(TextFormat)})
        from minillm.data.corpus import open_corpus
        from minillm.data.statistics import TextStatistics

        text = open_corpus(options.text, text_format)
        statistics = TextStatistics.of(text)
        if not statistics.check.num_chars:
            raise ValueError(f"corpus {text.name!r} is empty: pass one that contains text")
    for name, value in describe(text, statistics):
        print(f"{name:<11} {value}", flush=True)


def describe(text: Corpus, statistics: TextStatistics) -> Iterator[tuple[str, str]]:
    """Yield the lines of a description: a name and a value."""
    from minillm.data.statistics import MAX_BASELINE_CHARS

    check, (num_train, num_val) = statistics.check, statistics.split()
    encodings = ", ".join(sorted(text.encodings()))
    yield "sources", f"{len(text.sources):,}, with {text.size:,} bytes in {encodings}"
    yield "characters", f"{check.num_chars:,}, in {statistics.num_lines:,} lines of up to {statistics.longest_line:,}"
    if lengths := sorted(statistics.document_lengths):
        spread = f"{lengths[0]:,} to {lengths[-1]:,} characters, median {lengths[len(lengths) // 2]:,}"
        yield "documents", f"{len(lengths):,}, of {spread}; {statistics.num_duplicate_documents:,} are duplicates"
    characters = "".join(sorted(check.alphabet))
    form = f", in normal form {check.normal_form}" if check.normal_form else ""
    more = "..." if len(characters) > MAX_ALPHABET_CHARS else ""
    yield "alphabet", f"{len(characters):,} characters{form}: {characters[:MAX_ALPHABET_CHARS]!r}{more}"
    for character, count in statistics.rarest(NUM_RAREST):
        if count <= MAX_RARE:
            yield "rare", f"{character!r} U+{ord(character):04X}, {count:,} times, {statistics.first_places[character]}"
    percent = 100 * statistics.num_duplicate_chars / check.num_chars
    longest = f"; the longest: {statistics.longest_duplicate[:60]!r}" if statistics.longest_duplicate else ""
    yield "duplicates", f"{percent:.1f} % of the characters are in long lines that occur before{longest}"
    yield "split", f"{num_train:,} characters for training, {num_val:,} for validation"
    if bits := statistics.baselines():
        length = len(statistics.beginning)
        part = f" (of the first {length:,})" if length == MAX_BASELINE_CHARS else ""
        values = ", ".join(f"{name} {value:.3f}" for name, value in bits.items())
        yield "baselines", f"{values} bits per character{part}"
    for message in check.messages():
        yield "warning", message
    for message in text_advice(num_train, num_val):
        yield "advice", message
    flags: list[str] = []
    for field in fields(text.text_format):
        if (value := getattr(text.text_format, field.name)) != field.default:
            flags += [f"--data.{field.name}", value]
    yield "begin with", first_command(text.name, num_train, flags)


def _parser() -> CommandParser:
    from minillm.data.text_files import DocumentMode, TextFormat

    parser = CommandParser("inspect", "Describe a text, and say which configuration to begin with.")
    add = parser.add_argument
    add("text", help="a file, folder, glob pattern, or a built-in corpus, as for fit --data.corpus")
    add(
        "--encoding",
        "--data.encoding",
        default=TextFormat.encoding,
        help="character encoding, as for fit --data.encoding",
    )
    add("--text_field", "--data.text_field", default=TextFormat.text_field, help="field of JSON Lines with the text")
    add("--documents", default=TextFormat.documents, choices=get_args(DocumentMode), help="as for fit --data.documents")
    return parser
