"""MiniLLM: a small Transformer language model, written to be read and trained in a minute.

    model, tokenizer = minillm.load("best")
    for piece in minillm.generate(model, tokenizer, "ROMEO:", max_new_tokens=200, seed=1):
        print(piece, end="")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.generation import generate, load

__all__ = ["generate", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import torch only when something is asked for, so that `--help` and wrong flags answer at once."""
    if name in __all__:
        import minillm.generation

        return getattr(minillm.generation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
