"""`configs`: list the configurations of the package, or print one."""

import argparse

from minillm.commands.config_files import packaged_configs, purpose
from minillm.errors import OneLineErrors, fail


def run(args: list[str]) -> None:
    """Run `configs`.

    Args:
        args: The command line, from the subcommand on.
    """
    parser = _Parser(
        prog="minillm configs",
        description="List the configurations of the package, or print one: minillm configs best-small > mine.yaml",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", help="the configuration to print")
    name = parser.parse_args(args[1:]).name
    found = packaged_configs()
    if name is None:
        for known, path in found.items():
            print(f"{known:<12}{purpose(path)}")
    elif name in found:
        print(found[name].read_text("utf-8"), end="")
    else:
        fail(f"no configuration is named {name!r}: give one of {', '.join(found)}")


class _Parser(OneLineErrors, argparse.ArgumentParser):
    pass
