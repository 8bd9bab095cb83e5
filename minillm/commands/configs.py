"""`configs`: list the packaged configurations or print one."""

from minillm.commands.command_parser import CommandParser
from minillm.commands.config_files import config_summary, packaged_configs
from minillm.errors import fail


def run(args: list[str]) -> None:
    """Run `configs`.

    Args:
        args: The command line, starting with the subcommand.
    """
    parser = CommandParser(
        "configs", "List the packaged configurations, or print one: minillm configs best-small > my_config.yaml"
    )
    parser.add_argument("name", nargs="?", help="configuration to print")
    name = parser.parse_args(args[1:]).name
    configs = packaged_configs()
    if name is None:
        for known, path in configs.items():
            print(f"{known:<12}{config_summary(path)}")
    elif name in configs:
        print(configs[name].read_text("utf-8"), end="")
    else:
        fail(f"unknown configuration {name!r}; choose from {', '.join(configs)}")
