"""Generation workloads: one iteration generates `NUM_NEW_CHARACTERS` for each text of a batch."""

import time
from collections.abc import Callable
from typing import Any

from sizes import Sizes
from workers import Workload

from minillm.config import ModelConfig
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer

PROMPT, NUM_NEW_CHARACTERS = "ROMEO:", 500
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TEMPERATURE, TOP_K = 0.8, 40


def ours(sizes: Sizes, num_texts: int) -> Workload:
    """Generate past the context length with NumPy: one text by `minillm.generate`, several as `predict` does."""
    from minillm.generation.batch_generator import Batch, cpu_generator
    from minillm.generation.generate import generate
    from minillm.generation.numpy_decoder import NumpyDecoder
    from minillm.generation.sampling_params import SamplingParams

    model, tokenizer = new_model(sizes), CharTokenizer(ALPHABET)

    def one_text() -> None:
        text = "".join(generate(model, tokenizer, PROMPT, NUM_NEW_CHARACTERS, TEMPERATURE, TOP_K))
        assert len(text) == NUM_NEW_CHARACTERS

    def several_texts() -> None:
        decoder, params = NumpyDecoder.from_model(model), SamplingParams(NUM_NEW_CHARACTERS, TEMPERATURE, TOP_K)
        with cpu_generator(decoder, tokenizer, num_texts, NUM_NEW_CHARACTERS) as generator:
            size = -(-num_texts // generator.num_processes)
            batches = [Batch(PROMPT, range(n, min(n + size, num_texts))) for n in range(0, num_texts, size)]
            length = sum(len(chunk) for chunks in generator.generate(batches, params) for _, chunk in chunks)
        assert length == NUM_NEW_CHARACTERS * num_texts

    return _repeat(one_text if num_texts == 1 else several_texts)


def ours_torch(sizes: Sizes, num_texts: int) -> Workload:
    """Generate past the context length with PyTorch, as `predict --accelerator cpu` does."""
    from minillm.generation.generate import generate_batch
    from minillm.generation.sampling_params import SamplingParams
    from minillm.generation.torch_decoder import TorchDecoder

    decoder, tokenizer = TorchDecoder(new_model(sizes)), CharTokenizer(ALPHABET)
    params = SamplingParams(NUM_NEW_CHARACTERS, TEMPERATURE, TOP_K)

    def call() -> None:
        chunks = generate_batch(decoder, tokenizer, PROMPT, params, range(num_texts))
        assert sum(len(chunk) for _, chunk in chunks) == NUM_NEW_CHARACTERS * num_texts

    return _repeat(call)


def new_model(sizes: Sizes) -> Decoder:
    """Return a decoder with the parts of the reference and random weights."""
    shape = (sizes.context_length, sizes.embed_dim, sizes.num_layers, sizes.num_heads)
    return Decoder(ModelConfig(sizes.vocab_size, *shape, dropout=0.2)).eval()


def huggingface(sizes: Sizes, num_texts: int) -> Workload:
    """Generate with Hugging Face's `generate`, its KV cache and a GPT-2 whose position table covers the whole text."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = GPT2Config(
        vocab_size=sizes.vocab_size,
        n_positions=len(PROMPT) + NUM_NEW_CHARACTERS,
        n_embd=sizes.embed_dim,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    model: Any = GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[ALPHABET.index(character) for character in PROMPT]] * num_texts)

    def call() -> None:
        params = {"do_sample": True, "temperature": TEMPERATURE, "top_k": TOP_K}
        generated = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_NEW_CHARACTERS, **params
        )
        assert tuple(generated.shape) == (num_texts, len(PROMPT) + NUM_NEW_CHARACTERS)

    return _repeat(call)


def _repeat(call: Callable[[], None]) -> Workload:
    def run(n: int) -> float:
        started = time.perf_counter()
        for _ in range(n):
            call()
        return time.perf_counter() - started

    return run
