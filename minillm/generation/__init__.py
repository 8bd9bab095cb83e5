"""Writing with a trained model."""

from minillm.generation.checkpoint import load
from minillm.generation.generate import generate

__all__ = ["generate", "load"]
