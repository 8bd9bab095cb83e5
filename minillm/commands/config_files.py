"""The configurations of the package, by name."""

from pathlib import Path

PACKAGE = Path(__file__).parent.parent
FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")  # in a wheel; in a clone or an editable installation


def packaged_configs() -> dict[str, Path]:
    """The configurations of the package, by name."""
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def purpose(path: Path) -> str:
    """The first comment line of a configuration."""
    return path.read_text("utf-8").partition("\n")[0].lstrip("# ")


def locate(name: str) -> str:
    """The path of a configuration of the package, or of one's own.

    Args:
        name: A name such as `best-small`, which means the package's, whatever the working folder holds; or a path.

    Raises:
        ValueError: It is neither a name of the package's nor a path.
    """
    if name in packaged_configs():
        return str(packaged_configs()[name])
    if name and Path(name).name == name and not Path(name).suffix and not Path(name).exists():
        raise ValueError(
            f"no configuration is named {name!r}: give one of {', '.join(packaged_configs())}, or a path to a file"
        )
    return name
