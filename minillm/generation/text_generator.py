"""Text generation by Lightning's `Trainer.predict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader

from minillm.generation.generate import generate_batch
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.torch_decoder import TorchDecoder
from minillm.tokenizer import Tokenizer


class Prompts(LightningDataModule):
    """Prompts to continue, one per batch.

    Args:
        prompts: Texts; an empty one starts a new line.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        super().__init__()
        self.prompts = prompts

    def predict_dataloader(self) -> DataLoader[str]:
        """Return a loader of single prompts."""
        dataset: Any = self.prompts
        return DataLoader(dataset, batch_size=None)


class TextGenerator(LightningModule):
    """Generator of the continuations of prompts, on the device and in the precision of a Trainer.

        texts = Trainer(accelerator="gpu").predict(TextGenerator(*minillm.load("best")), Prompts(["ROMEO:"]))

    Args:
        model: A trained decoder.
        tokenizer: The tokenizer it was trained with.
        params: Sampling parameters.
        num_samples: Number of continuations per prompt; they have consecutive seeds if `params` has one.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, params: SamplingParams | None = None, num_samples: int = 1
    ) -> None:
        super().__init__()
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        self.model, self.tokenizer = model, tokenizer
        self.params, self.num_samples = params or SamplingParams(), num_samples

    def predict_step(self, batch: str, batch_idx: int) -> list[str]:
        """Return the continuations of a prompt."""
        seed = self.params.seed
        seeds = [None if seed is None else seed + number for number in range(self.num_samples)]
        texts = [""] * self.num_samples
        for index, chunk in generate_batch(TorchDecoder(self.model), self.tokenizer, batch, self.params, seeds):
            texts[index] += chunk
        return texts
