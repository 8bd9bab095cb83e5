"""`predict --interactive`: read prompts and settings from the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from minillm.commands.escapes import unescape
from minillm.errors import fail
from minillm.generation.sampling_params import SamplingParams

HELP = """Type a prompt to continue it; \\n in it is a line break. Ctrl-C stops a text, Ctrl-D ends.
/temperature 0.8   /top_k 40   /top_p 0.9   /max_new_tokens 500   /seed 1   change a setting; none disables a filter
/stop THEN         ends texts before a string; without one, removes all stop strings
/settings          shows the settings"""
TYPES: dict[str, Callable[[str], int | float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "max_new_tokens": int,
    "seed": int,
}


def read_prompts(params: SamplingParams) -> Iterator[tuple[str, SamplingParams]]:
    """Read prompts from the terminal, until Ctrl-D.

    Args:
        params: Sampling parameters of the first text; each further prompt has the next seed.

    Returns:
        An iterator over prompts and their sampling parameters.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        fail("--interactive reads prompts from a terminal, but stdin is not one: leave it out to read a prompt")
    with suppress(ImportError):  # Windows
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives input() line editing and history
    print(HELP, file=sys.stderr)
    while (line := _read_line()) is not None:
        if line.startswith("/"):
            try:
                params = change_setting(params, line)
            except ValueError as error:
                print(f"minillm: error: {error}", file=sys.stderr)
        elif line:
            yield unescape(line), params
            params = replace(params, seed=((params.seed or 0) + 1) % 2**63)


def change_setting(params: SamplingParams, line: str) -> SamplingParams:
    """Return sampling parameters changed by a line such as `/temperature 0.5`.

    Raises:
        ValueError: There is no such setting, or its value is wrong.
    """
    name, _, value = line.removeprefix("/").partition(" ")
    value = value.strip()
    if name == "settings":
        print(params, file=sys.stderr)
        return params
    if name == "stop":
        return replace(params, stop=(*params.stop, unescape(value)) if value else ())
    if name not in TYPES:
        raise ValueError(f"unknown setting /{name}; choose from /{', /'.join(TYPES)}, /stop, /settings")
    if value == "none" and name in ("top_k", "top_p"):
        return replace(params, **{name: None})
    try:
        number = TYPES[name](value)
    except ValueError:
        raise ValueError(f"/{name} must be followed by a number, got {value!r}") from None
    return replace(params, **{name: number})


def _read_line() -> str | None:
    """Read a line, again after Ctrl-C; None after Ctrl-D."""
    while True:
        try:
            return input("> ")
        except EOFError:
            print(file=sys.stderr)
            return None
        except KeyboardInterrupt:
            print(file=sys.stderr)
