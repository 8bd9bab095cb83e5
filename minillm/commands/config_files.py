"""Paths and summaries of the packaged configurations."""

from pathlib import Path

PACKAGE_FOLDER = Path(__file__).parent.parent
CONFIG_FOLDERS = (PACKAGE_FOLDER / "configs", PACKAGE_FOLDER.parent / "configs")  # wheel; clone or editable install


def packaged_configs() -> dict[str, Path]:
    """Return the paths of the packaged configurations by name."""
    folder = next(folder for folder in CONFIG_FOLDERS if folder.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def config_summary(path: Path) -> str:
    """Return the first comment line of a configuration."""
    return path.read_text("utf-8").partition("\n")[0].lstrip("# ")


def resolve_config(name: str) -> str:
    """Return the path of a packaged configuration or of the user's own.

    Args:
        name: The name of a packaged configuration, such as `best-small`, which takes precedence over files in the
            working folder; or a path.

    Raises:
        ValueError: `name` is neither a packaged configuration nor a path.
    """
    if name in packaged_configs():
        return str(packaged_configs()[name])
    if name and Path(name).name == name and not Path(name).suffix and not Path(name).exists():
        raise ValueError(
            f"unknown configuration {name!r}; choose from {', '.join(packaged_configs())}, or pass the path of a file"
        )
    return name
