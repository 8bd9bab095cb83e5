"""Format number of checkpoints and config.yaml, and the package versions that wrote them."""

from typing import Any

FORMAT = 3  # written by this version; files without a format number have format 1


class UnsupportedFileError(ValueError):
    """Raised for a valid file that needs another program: of a later version, or with a model class of its own."""


def check_format(content: dict[str, Any], name: object) -> None:
    """Check that this version supports the format of a file.

    Args:
        content: The content of a checkpoint or a config.yaml.
        name: Name of the file, for the message.

    Raises:
        UnsupportedFileError: The format is that of a later version.
        ValueError: The format is not a positive integer.
    """
    number = content.get("format", 1)
    if type(number) is not int or number < 1:
        raise ValueError(f"{name}: format must be an integer from 1 to {FORMAT}, got {number!r}")
    if number > FORMAT:
        message = f"{name} has format {number}, but this version supports formats up to {FORMAT}: upgrade MiniLLM"
        raise UnsupportedFileError(message)


def versions() -> dict[str, str]:
    """Return the versions of the packages that a run depends on."""
    from importlib.metadata import version  # imported on use: slow, and generation does not need it

    return {name: version(name) for name in ("minillm", "torch", "lightning")}
