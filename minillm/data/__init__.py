"""Where text comes from, and how it reaches the model."""

from minillm.data.datamodule import TextDataModule

__all__ = ["TextDataModule"]
