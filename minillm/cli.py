"""The command line: which command is run by which module.

A module is imported only when its command is asked for: generating text does not wait for the Trainer.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from minillm import __version__
from minillm.errors import fail, one_line_warnings

COMMANDS = {
    "fit": ("minillm.commands.flags", "train a model"),
    "validate": ("minillm.commands.flags", "measure a checkpoint on the validation text"),
    "test": ("minillm.commands.flags", "the same, under the names test_loss and so on"),
    "predict": ("minillm.commands.predict", "continue a prompt with a trained model"),
    "serve": ("minillm.commands.serve", "a page and an API to talk to trained models"),
    "configs": ("minillm.commands.configs", "list the configurations of the package, or print one"),
}


def main(args: list[str] | None = None) -> None:
    """Run one command.

    Args:
        args: The command line after the program's name; by default this process's own.

    Raises:
        SystemExit: With code 2 if the input was wrong, 130 if interrupted.
    """
    args = sys.argv[1:] if args is None else args
    if sys.stderr is None:  # closed; print would take stdout for it
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if args and args[0] in ("-h", "--help"):
        print(_usage())
    elif args and args[0] == "--version":
        print(f"minillm {__version__}")
    elif not args or args[0] not in COMMANDS:
        given = f"{args[0]!r} is not a command" if args else "a command is missing"
        fail(f"{given}: give one of {', '.join(COMMANDS)}, or --help")
    else:
        one_line_warnings()
        module, _ = COMMANDS[args[0]]
        try:
            import_module(module).run(args)
        except KeyboardInterrupt:
            sys.exit(130)


def _usage() -> str:
    commands = "\n".join(f"  {name:<10}{does}" for name, (_, does) in COMMANDS.items())
    return (
        "usage: minillm COMMAND [--help] [flags]\n\n"
        "A small Transformer language model, trained on Shakespeare.\n\n"
        f"commands:\n{commands}\n\n"
        "Begin with: minillm fit --config quick"
    )
