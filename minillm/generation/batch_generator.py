"""Generation of the texts of one or several prompts in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from minillm.generation.decoder import InferenceDecoder
from minillm.generation.generate import generate_batch
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.threads import set_num_threads, useful_processes, useful_threads
from minillm.tokenizer import Tokenizer

Chunk = tuple[int, str]  # the index of a text in its batch, and what follows in it


class Batch(NamedTuple):
    """Texts to generate together: a prompt, and the seed of each continuation."""

    prompt: str
    seeds: Sequence[int]


class BatchGenerator:
    """Generator of one batch of texts after another.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
    """

    num_processes = 1

    def __init__(self, decoder: InferenceDecoder, tokenizer: Tokenizer) -> None:
        self.model = decoder, tokenizer

    def __enter__(self) -> Self:
        """Return the generator, which ends with the context."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End without completing texts."""

    def generate(self, batches: Sequence[Batch], settings: SamplingParams) -> Iterator[Iterator[Chunk]]:
        """Generate up to `num_processes` batches at the same time.

        Args:
            batches: At least 1.
            settings: Sampling parameters; its `seed` is ignored.

        Returns:
            For every batch, an iterator like that of `generate_batch`, to be consumed before the next one.
        """
        for prompt, seeds in batches:
            yield generate_batch(*self.model, prompt, settings, seeds)


def cpu_generator(decoder: NumpyDecoder, tokenizer: Tokenizer, num_texts: int, num_tokens: int) -> BatchGenerator:
    """Create a generator that uses all CPUs: with processes for many texts, with threads for a large model.

    Args:
        decoder: The model; the number of threads of all NumPy code is set for it.
        tokenizer: Its tokenizer.
        num_texts: Number of texts to generate; 0 if it is not known.
        num_tokens: Maximum number of tokens of each.
    """
    num_processes = useful_processes(decoder.config, num_texts, num_tokens)
    if num_processes > 1:
        from minillm.generation.processes import ProcessPoolGenerator  # imported on use: slow

        set_num_threads(1)  # of each process
        return ProcessPoolGenerator(decoder, tokenizer, num_processes)
    if (num_threads := useful_threads(decoder.config)) > 1:
        set_num_threads(num_threads)
    return BatchGenerator(decoder, tokenizer)
