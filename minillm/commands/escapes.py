r"""Escape sequences in flags: \n, \t and \0 for control characters that are hard to type, and \\ for a backslash."""

import re

ESCAPES = {r"\n": "\n", r"\t": "\t", r"\0": "\0", r"\\": "\\"}


def unescape(text: str) -> str:
    r"""Replace escape sequences by what they stand for; any other backslash stays: `\n\d` is a newline and `\d`."""
    return re.sub(r"\\[nt0\\]", lambda match: ESCAPES[match[0]], text)


def escape(text: str) -> str:
    """Return a text from which `unescape` makes the given one."""
    return "".join({value: name for name, value in ESCAPES.items()}.get(character, character) for character in text)
