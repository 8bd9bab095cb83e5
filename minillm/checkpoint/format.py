"""The format number that checkpoints and config.yaml carry, and the versions that wrote them."""

from typing import Any

FORMAT = 2  # what this version writes; files without a number have format 1


class NewerFormatError(ValueError):
    """A file has a format that only later versions know."""


def check_format(content: dict[str, Any], name: object) -> None:
    """Refuse a file whose format this version does not know.

    Args:
        content: The values of a checkpoint or of a config.yaml.
        name: The name of the file, for the message.

    Raises:
        NewerFormatError: The format is a later one.
        ValueError: The format is not a number.
    """
    number = content.get("format", 1)
    if type(number) is not int or number < 1:
        raise ValueError(f"{name}: format must be a number from 1 to {FORMAT}, got {number!r}")
    if number > FORMAT:
        raise NewerFormatError(f"{name} has format {number}, but this MiniLLM reads formats up to {FORMAT}: upgrade it")


def versions() -> dict[str, str]:
    """The versions of the packages that a run depends on."""
    from importlib.metadata import version  # only here: generation does not wait for it

    return {name: version(name) for name in ("minillm", "torch", "lightning")}
