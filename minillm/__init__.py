"""MiniLLM: a small Transformer language model, written to be read in half an hour and trained in minutes.

model, tokenizer = minillm.load("best")
for text in minillm.generate(model, tokenizer, "ROMEO:", max_new_tokens=200, seed=1):
    print(text, end="")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.commands.fit_function import FitResult, fit
    from minillm.export.export import export
    from minillm.generation.generate import generate
    from minillm.generation.load import load
    from minillm.training.interruption import DivergedError

__all__ = ["DivergedError", "FitResult", "export", "fit", "generate", "load"]
__version__ = "0.2.0"

_MODULES = {
    "DivergedError": "minillm.training.interruption",
    "FitResult": "minillm.commands.fit_function",
    "export": "minillm.export.export",
    "fit": "minillm.commands.fit_function",
    "generate": "minillm.generation.generate",
    "load": "minillm.generation.load",
}


def __getattr__(name: str) -> object:
    """Import the public functions lazily, so that `--help` and usage errors do not wait for torch."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
