"""`--help` and unknown flags of `fit`, `validate` and `test`, handled before torch and Lightning are imported.

The flags of the data, the model and the callbacks are the constructor arguments of the classes in `SECTIONS`. They are
read from the source files, because importing the classes takes seconds. LightningCLI checks the flags of the Trainer
and all values.
"""

import ast
import dataclasses
import difflib
import os
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

from minillm.commands.config_files import PACKAGE_FOLDER, resolve_config
from minillm.commands.trainer_settings import TRAINER_DEFAULTS
from minillm.config import ModelConfig
from minillm.cpus import limit_spinning
from minillm.errors import exit_on_wrong_input, fail

SECTIONS = {  # flag prefix: file and name of the class whose arguments are flags
    "data": ("data/datamodule.py", "TextDataModule"),
    "model": ("training/module.py", "LanguageModel"),  # in addition to the fields of ModelConfig
    "checkpoints": ("callbacks/checkpoints.py", "Checkpoints"),
    "samples": ("callbacks/samples.py", "Samples"),
    "attention_maps": ("callbacks/attention_maps.py", "AttentionMaps"),
}
TOP_LEVEL_FLAGS = {
    "config": "a packaged configuration (listed by minillm configs) or a YAML file; later configurations and flags "
    "override earlier ones",
    "name": "name of the run, which is written to lightning_logs/NAME/version_N (default: minillm)",
    "version": "number N or another name of the version folder (default: the next free number)",
    "ckpt_path": "a checkpoint file, a run folder, or best or last of the newest run; fit resumes it, and with auto "
    "also starts the first run; validate and test evaluate it (default of validate and test: best)",
    "init_from": "checkpoint whose weights and tokenizer initialize a new run (fine-tuning)",
    "seed_everything": "random seed of the weights, dropout and training windows (default: 1337)",
    "print_config": "print the resolved configuration and exit",
    "help": "show this help message and exit",
}
LINKED_ARGUMENTS = (  # set by LightningCLI's argument links, not by flags
    "model.vocab_size",
    "model.context_length",
    "samples.tokenizer",
    "attention_maps.tokenizer",
)
TRAINER_DOCS_URL = "https://lightning.ai/docs/pytorch/stable/common/trainer.html"


@dataclass
class Argument:
    """A constructor argument: the source text of its default (empty if required) and its description."""

    default: str
    description: str


def run(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`, after handling `--help` and unknown flags.

    Args:
        args: The command line, starting with the subcommand.
    """
    command, *words = args
    if "--help" in words or "-h" in words:
        print(_help(command))
        sys.exit(0)
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and " " not in name:  # argparse treats a word with a space as a value
            check_flag(name, command)
    with exit_on_wrong_input():
        words = resolve_config_names(words)
    limit_spinning()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # processes whose peers have ended print 25 lines otherwise
    import_module("minillm.commands.fit").run([command, *words])


def check_flag(name: str, command: str) -> None:
    """Exit with an error if a flag is unknown.

    Args:
        name: The flag without `--`.
        command: The command that it is passed to.
    """
    section, _, rest = name.partition(".")
    argument = rest.partition(".")[0].removesuffix("+")
    if section == "trainer" or name in TOP_LEVEL_FLAGS:
        return
    if section in SECTIONS and (not rest or argument in arguments(section)):
        return
    known = [f"{section}.{argument}" for section in SECTIONS for argument in arguments(section)]
    known += [f"trainer.{argument}" for argument in TRAINER_DEFAULTS]
    closest = [flag for flag in known if _abbreviation(flag) == name]  # model.lr is model.learning_rate
    closest = closest or difflib.get_close_matches(name, {*TOP_LEVEL_FLAGS, *known} - {*LINKED_ARGUMENTS}, n=1)
    suggestion = f"; did you mean --{closest[0]}?" if closest else ""
    fail(f"unrecognized flag --{name}{suggestion} (minillm {command} --help lists all flags)")


def _abbreviation(flag: str) -> str:
    section, _, argument = flag.partition(".")
    return f"{section}.{''.join(word[0] for word in argument.split('_'))}"


def resolve_config_names(words: list[str]) -> list[str]:
    """Replace the names of configurations in a command line by their paths.

    Raises:
        ValueError: There is no such configuration.
    """
    resolved: list[str] = []
    for previous, word in zip(["", *words], words, strict=False):
        if previous in ("--config", "-c"):
            resolved.append(resolve_config(word))
        elif word.startswith("--config="):
            resolved.append(f"--config={resolve_config(word.removeprefix('--config='))}")
        else:
            resolved.append(word)
    return resolved


@cache
def arguments(section: str) -> dict[str, Argument]:
    """Return the arguments of a section's class by name, for `model` together with the fields of ModelConfig."""
    own = _class_arguments(*SECTIONS[section])
    return {**_model_config_arguments(), **own} if section == "model" else own


def _model_config_arguments() -> dict[str, Argument]:
    descriptions = _argument_descriptions(ModelConfig.__doc__ or "")
    return {
        field.name: Argument(
            "" if field.default is dataclasses.MISSING else repr(field.default), descriptions[field.name]
        )
        for field in dataclasses.fields(ModelConfig)
    }


def _class_arguments(file: str, name: str) -> dict[str, Argument]:
    tree = ast.parse(Path(PACKAGE_FOLDER, file).read_text(encoding="utf-8"))
    definition = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    init = next(node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in init.args.args[1:]]
    defaults = [ast.unparse(value) for value in init.args.defaults]
    defaults = [""] * (len(names) - len(defaults)) + defaults
    descriptions = _argument_descriptions(ast.get_docstring(definition) or "")
    return {name: Argument(default, descriptions.get(name, "")) for name, default in zip(names, defaults, strict=True)}


def _argument_descriptions(docstring: str) -> dict[str, str]:
    """Parse the `Args:` section of a docstring."""
    descriptions: dict[str, str] = {}
    name = ""
    for line in cleandoc(docstring).partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if not line.startswith("     "):
            name, _, line = line.strip().partition(":")
        descriptions[name] = f"{descriptions.get(name, '')} {line.strip()}".strip()
    return descriptions


def _help(command: str) -> str:
    lines = [f"usage: minillm {command} [--config FILE] [flags]", ""]
    lines += [_help_entry(name, description) for name, description in TOP_LEVEL_FLAGS.items()]
    for section in SECTIONS:
        lines.append("")
        for name, argument in arguments(section).items():
            if f"{section}.{name}" not in LINKED_ARGUMENTS:
                default = "" if argument.default == "None" else f" (default: {argument.default})"
                lines.append(_help_entry(f"{section}.{name}", argument.description + default))
    lines += ["", f"  --trainer.NAME: arguments of Lightning's Trainer, {TRAINER_DOCS_URL}"]
    return "\n".join(lines)


def _help_entry(name: str, description: str) -> str:
    first, rest = f"  --{name:<34}", " " * 38
    return textwrap.fill(description, 116, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
