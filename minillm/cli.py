"""Command-line entry point: dispatch each command to its module.

A command's module is imported only when that command runs, so that `predict` does not wait for Lightning's Trainer.
"""

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from minillm import __version__
from minillm.errors import CommandExit, exit_on_stdout_error, fail, flush_stdout, format_warnings_on_one_line

COMMANDS = {
    "fit": ("minillm.commands.flags", "train a model"),
    "validate": ("minillm.commands.flags", "evaluate a checkpoint on the validation split"),
    "test": ("minillm.commands.flags", "same as validate, but name the metrics test_*"),
    "predict": ("minillm.commands.predict", "continue a prompt with a trained model"),
    "serve": ("minillm.commands.serve", "serve trained models with a web page and an HTTP API"),
    "export": ("minillm.commands.export", "write a trained model in the format of another program"),
    "inspect": ("minillm.commands.inspect", "describe a text, and say which configuration to begin with"),
    "configs": ("minillm.commands.configs", "list the packaged configurations, or print one"),
}


def main(args: list[str] | None = None) -> None:
    """Run one command.

    Args:
        args: Command-line arguments without the program name; defaults to `sys.argv[1:]`.

    Raises:
        SystemExit: With code 2 for invalid input or a full disk behind stdout, 130 on Ctrl-C.
    """
    if sys.stderr is None:  # it is closed; print would fall back to stdout
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for characters missing in its encoding
    try:
        _run(sys.argv[1:] if args is None else args)
    except CommandExit as end:
        end.print_message()
        raise


def _run(args: list[str]) -> None:
    """Run one command, and report an error of stdout like one of the input."""
    try:
        _dispatch(args)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename:
            raise
        exit_on_stdout_error(error)
    finally:
        flush_stdout()


def _dispatch(args: list[str]) -> None:
    """Run the command that the arguments name."""
    if args and args[0] in ("-h", "--help"):
        print(_usage())
    elif args and args[0] == "--version":
        print(f"minillm {__version__}")
    elif not args or args[0] not in COMMANDS:
        problem = f"unknown command {args[0]!r}" if args else "missing command"
        fail(f"{problem}; choose from {', '.join(COMMANDS)}, or pass --help")
    else:
        format_warnings_on_one_line()
        module, _ = COMMANDS[args[0]]
        import_module(module).run(args)


def _usage() -> str:
    commands = "\n".join(f"  {name:<10}{summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "usage: minillm COMMAND [--help] [flags]\n\n"
        "A small Transformer language model, trained on Shakespeare.\n\n"
        f"commands:\n{commands}\n\n"
        "Get started with: minillm fit --config quick"
    )
