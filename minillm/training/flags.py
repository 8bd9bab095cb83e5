"""The flags of `fit`, `validate` and `test`: help and typing errors are answered before the Trainer is imported.

What can be configured are the arguments of the classes below. They are read from the classes' source, because importing
Lightning takes seconds. The values are for the command to check.
"""

import ast
import difflib
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from minillm.errors import fail

SECTIONS = {  # the classes (package, file in it, name) whose arguments are the flags that begin so
    "data": [("minillm", "data/datamodule.py", "TextDataModule")],
    "model": [("minillm", "model/decoder.py", "Decoder"), ("minillm", "training/module.py", "LanguageModel")],
    "checkpoints": [("minillm", "training/checkpoints.py", "Checkpoints")],
    "samples": [("minillm", "training/samples.py", "Samples")],
    "attention_maps": [("minillm", "training/attention_maps.py", "AttentionMaps")],
    "trainer": [("lightning", "pytorch/trainer/trainer.py", "Trainer")],
}
WITHOUT_SECTION = {
    "config": "a YAML file with any of these; flags after it win",
    "ckpt_path": "a checkpoint file, a run folder, or best or last of the newest run; fit goes on from it, the others "
    "measure it (their default: best)",
    "init_from": "begin a new run with the weights and the tokenizer of this checkpoint (fine-tuning)",
    "seed_everything": "of the weights, the dropout and the windows (default: 1337)",
    "print_config": "print the whole configuration, and do nothing else",
    "help": "show this",
}
NOT_FLAGS = ("model.vocab_size", "model.context_length", "samples.tokenizer", "attention_maps.tokenizer")  # linked
LIGHTNINGS_OWN = ("weights_only", "verbose")  # of its commands


@dataclass
class Argument:
    """An argument of a class: its default as written there (empty: none), and what the docstring says of it."""

    default: str
    about: str


def run(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`, unless help is asked for or a flag is none.

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
    import_module("minillm.training.command").run(args)


def _check(name: str, command: str) -> None:
    section, _, rest = name.partition(".")
    first = rest.partition(".")[0].removesuffix("+")
    if section in SECTIONS and (not rest or first in arguments(section)):
        return
    if name in (*WITHOUT_SECTION, *LIGHTNINGS_OWN):
        return
    known = [f"{section}.{argument}" for section in SECTIONS for argument in arguments(section)]
    nearest = difflib.get_close_matches(name, {*WITHOUT_SECTION, *known} - {*NOT_FLAGS}, n=1)
    suggestion = f": did you mean --{nearest[0]}?" if nearest else ""
    fail(f"--{name} is no flag of {command}{suggestion} (minillm {command} --help lists them)")


@cache
def arguments(section: str) -> dict[str, Argument]:
    """The arguments of a section's classes, by name."""
    return {name: argument for source in SECTIONS[section] for name, argument in _of_class(*source).items()}


def _of_class(package: str, file: str, name: str) -> dict[str, Argument]:
    spec = find_spec(package)  # does not import it
    assert spec is not None
    assert spec.submodule_search_locations is not None
    tree = ast.parse(Path(spec.submodule_search_locations[0], file).read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    init = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in (*init.args.args[1:], *init.args.kwonlyargs)]
    defaults = [ast.unparse(value) if value else "" for value in (*init.args.defaults, *init.args.kw_defaults)]
    defaults = [""] * (len(names) - len(defaults)) + defaults
    about = _paragraphs(ast.get_docstring(found) or "")
    return {name: Argument(value, about.get(name, "")) for name, value in zip(names, defaults, strict=True)}


def _paragraphs(docstring: str) -> dict[str, str]:
    """What the part headed `Args:` says of each argument."""
    paragraphs, name = {}, ""
    for line in docstring.partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if not line.startswith("     "):
            name, _, line = line.strip().partition(":")
        paragraphs[name] = f"{paragraphs.get(name, '')} {line.strip()}".strip()
    return paragraphs


def _help(command: str) -> str:
    lines = [f"usage: minillm {command} [--config FILE] [flags]", ""]
    lines += [_entry(name, about) for name, about in WITHOUT_SECTION.items()]
    for section in SECTIONS:
        lines.append("")
        if section == "trainer":
            lines += ["Lightning's own, https://lightning.ai/docs/pytorch/stable/common/trainer.html:"]
            names = ", ".join(f"--trainer.{name}" for name in arguments(section))
            lines += textwrap.wrap(names, 116, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
            continue
        for name, argument in arguments(section).items():
            if f"{section}.{name}" not in NOT_FLAGS:
                default = "" if argument.default == "None" else f" (default: {argument.default})"
                lines.append(_entry(f"{section}.{name}", argument.about + default))
    return "\n".join(lines)


def _entry(name: str, about: str) -> str:
    first, rest = f"  --{name:<34}", " " * 38
    return textwrap.fill(about, 116, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
