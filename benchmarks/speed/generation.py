"""Contestants that write: a time is one call that makes `NEW` characters of each of a batch of texts."""

import time
from collections.abc import Callable
from typing import Any

from sizes import Sizes
from workers import Contestant

PROMPT, NEW = "ROMEO:", 500
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TEMPERATURE, TOP_K = 0.8, 40


def ours(sizes: Sizes, texts: int) -> Contestant:
    """`minillm.generate` for one text, what `predict --num_samples` calls for more; past the context of the model."""
    from minillm.config import ModelConfig
    from minillm.generation.generate import generate, generate_batch
    from minillm.generation.numpy_decoder import NumpyDecoder
    from minillm.generation.sampling_params import SamplingParams
    from minillm.model import Decoder
    from minillm.tokenizer import CharTokenizer

    shape = (sizes.context_length, sizes.embed_dim, sizes.num_layers, sizes.num_heads)
    model, tokenizer = Decoder(ModelConfig(sizes.vocab_size, *shape, dropout=0.2)).eval(), CharTokenizer(ALPHABET)

    def call() -> None:
        if texts == 1:
            made = "".join(generate(model, tokenizer, PROMPT, NEW, TEMPERATURE, TOP_K))
        else:
            settings = SamplingParams(NEW, TEMPERATURE, TOP_K)
            made = "".join(
                piece for _, piece in generate_batch(NumpyDecoder.of(model), tokenizer, PROMPT, settings, range(texts))
            )
        assert len(made) == NEW * texts

    return _calls(call)


def huggingface(sizes: Sizes, texts: int) -> Contestant:
    """Hugging Face's `generate` with its cache, on a GPT-2 whose table of positions is long enough for all of it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = GPT2Config(
        vocab_size=sizes.vocab_size,
        n_positions=len(PROMPT) + NEW,
        n_embd=sizes.embed_dim,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    model: Any = GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[ALPHABET.index(character) for character in PROMPT]] * texts)

    def call() -> None:
        settings = {"do_sample": True, "temperature": TEMPERATURE, "top_k": TOP_K, "max_new_tokens": NEW}
        made = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        assert tuple(made.shape) == (texts, len(PROMPT) + NEW)

    return _calls(call)


def _calls(call: Callable[[], None]) -> Contestant:
    def run(n: int) -> float:
        started = time.perf_counter()
        for _ in range(n):
            call()
        return time.perf_counter() - started

    return run
