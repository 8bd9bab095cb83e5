"""The flags of `fit`, `validate` and `test`: answers to --help and to unknown flags, without importing torch.

The flags of the data, of the model and of the callbacks are the arguments of the classes below, which are read from
their source, as importing them takes seconds. Those of the Trainer are LightningCLI's to check, and so are all values.
"""

import ast
import dataclasses
import difflib
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

from minillm.commands.config_files import PACKAGE, locate
from minillm.commands.trainer_settings import TRAINER_DEFAULTS
from minillm.config import ModelConfig
from minillm.errors import exit_on_wrong_input, fail

SECTIONS = {  # the classes (file and name) whose arguments are the flags that begin so
    "data": ("data/datamodule.py", "TextDataModule"),
    "model": ("training/module.py", "LanguageModel"),  # besides those of ModelConfig
    "checkpoints": ("callbacks/checkpoints.py", "Checkpoints"),
    "samples": ("callbacks/samples.py", "Samples"),
    "attention_maps": ("callbacks/attention_maps.py", "AttentionMaps"),
}
TOP_LEVEL_FLAGS = {
    "config": "a configuration of the package (minillm configs lists them), or a YAML file; flags after it win",
    "name": "the run goes to lightning_logs/NAME/version_N (default: minillm)",
    "version": "N, or another name of that folder (default: the next free number)",
    "ckpt_path": "a checkpoint file, a run folder, or best or last of the newest run; fit resumes it, the others "
    "measure it (their default: best)",
    "init_from": "begin a new run with the weights and the tokenizer of this checkpoint (fine-tuning)",
    "seed_everything": "of the weights, the dropout and the windows (default: 1337)",
    "print_config": "print the whole configuration, and do nothing else",
    "help": "show this",
}
NOT_FLAGS = ("model.vocab_size", "model.context_length", "samples.tokenizer", "attention_maps.tokenizer")  # linked
TRAINER_DOCS_URL = "https://lightning.ai/docs/pytorch/stable/common/trainer.html"


@dataclass
class Argument:
    """An argument of a class: its default as written there (empty: none), and what the docstring says of it."""

    default: str
    about: str


def run(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`, unless help is asked for or a flag is unknown.

    Args:
        args: The command line, from the subcommand on.
    """
    command, *words = args
    if "--help" in words or "-h" in words:
        print(_help(command))
        sys.exit(0)
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and " " not in name:  # with a space it is a value, also for the parser
            _check(name, command)
    with exit_on_wrong_input():
        words = _with_paths(words)
    import_module("minillm.commands.fit").run([command, *words])


def _check(name: str, command: str) -> None:
    section, _, rest = name.partition(".")
    first = rest.partition(".")[0].removesuffix("+")
    if section == "trainer" or name in TOP_LEVEL_FLAGS:
        return
    if section in SECTIONS and (not rest or first in arguments(section)):
        return
    known = [f"{section}.{argument}" for section in SECTIONS for argument in arguments(section)]
    known += [f"trainer.{argument}" for argument in TRAINER_DEFAULTS]
    nearest = difflib.get_close_matches(name, {*TOP_LEVEL_FLAGS, *known} - {*NOT_FLAGS}, n=1)
    suggestion = f"; did you mean --{nearest[0]}?" if nearest else ""
    fail(f"unrecognized flag --{name}{suggestion} (minillm {command} --help lists them)")


def _with_paths(words: list[str]) -> list[str]:
    """The command line, with paths for the names of configurations."""
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before in ("--config", "-c"):
            found.append(locate(word))
        elif word.startswith("--config="):
            found.append(f"--config={locate(word.removeprefix('--config='))}")
        else:
            found.append(word)
    return found


@cache
def arguments(section: str) -> dict[str, Argument]:
    """The arguments of a section's classes, by name."""
    own = _of_class(*SECTIONS[section])
    return {**_of_model_config(), **own} if section == "model" else own


def _of_model_config() -> dict[str, Argument]:
    about = _paragraphs(ModelConfig.__doc__ or "")
    return {
        field.name: Argument("" if field.default is dataclasses.MISSING else repr(field.default), about[field.name])
        for field in dataclasses.fields(ModelConfig)
    }


def _of_class(file: str, name: str) -> dict[str, Argument]:
    tree = ast.parse(Path(PACKAGE, file).read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    init = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in init.args.args[1:]]
    defaults = [ast.unparse(value) for value in init.args.defaults]
    defaults = [""] * (len(names) - len(defaults)) + defaults
    about = _paragraphs(ast.get_docstring(found) or "")
    return {name: Argument(value, about.get(name, "")) for name, value in zip(names, defaults, strict=True)}


def _paragraphs(docstring: str) -> dict[str, str]:
    """What the part headed `Args:` says of each argument."""
    paragraphs: dict[str, str] = {}
    name = ""
    for line in cleandoc(docstring).partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if not line.startswith("     "):
            name, _, line = line.strip().partition(":")
        paragraphs[name] = f"{paragraphs.get(name, '')} {line.strip()}".strip()
    return paragraphs


def _help(command: str) -> str:
    lines = [f"usage: minillm {command} [--config FILE] [flags]", ""]
    lines += [_entry(name, about) for name, about in TOP_LEVEL_FLAGS.items()]
    for section in SECTIONS:
        lines.append("")
        for name, argument in arguments(section).items():
            if f"{section}.{name}" not in NOT_FLAGS:
                default = "" if argument.default == "None" else f" (default: {argument.default})"
                lines.append(_entry(f"{section}.{name}", argument.about + default))
    lines += ["", f"  --trainer.NAME: the arguments of Lightning's Trainer, {TRAINER_DOCS_URL}"]
    return "\n".join(lines)


def _entry(name: str, about: str) -> str:
    first, rest = f"  --{name:<34}", " " * 38
    return textwrap.fill(about, 116, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
