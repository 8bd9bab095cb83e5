"""Generation workloads: one iteration generates `NUM_NEW_CHARACTERS` for each text of a batch."""

import time
from collections.abc import Callable
from typing import Any

from sizes import Sizes
from workers import Workload

PROMPT, NUM_NEW_CHARACTERS = "ROMEO:", 500
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TEMPERATURE, TOP_K = 0.8, 40


def ours(sizes: Sizes, num_texts: int) -> Workload:
    """Generate past the context length: with `minillm.generate`, or as `predict --num_samples` for several texts."""
    from minillm.config import ModelConfig
    from minillm.generation.generate import generate, generate_batch
    from minillm.generation.numpy_decoder import NumpyDecoder
    from minillm.generation.sampling_params import SamplingParams
    from minillm.model import Decoder
    from minillm.tokenizer import CharTokenizer

    shape = (sizes.context_length, sizes.embed_dim, sizes.num_layers, sizes.num_heads)
    model, tokenizer = Decoder(ModelConfig(sizes.vocab_size, *shape, dropout=0.2)).eval(), CharTokenizer(ALPHABET)

    def call() -> None:
        if num_texts == 1:
            text = "".join(generate(model, tokenizer, PROMPT, NUM_NEW_CHARACTERS, TEMPERATURE, TOP_K))
        else:
            decoder, params = NumpyDecoder.from_model(model), SamplingParams(NUM_NEW_CHARACTERS, TEMPERATURE, TOP_K)
            text = "".join(chunk for _, chunk in generate_batch(decoder, tokenizer, PROMPT, params, range(num_texts)))
        assert len(text) == NUM_NEW_CHARACTERS * num_texts

    return _repeat(call)


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
