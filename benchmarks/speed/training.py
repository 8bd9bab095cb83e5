"""Contestants that train: a time is one optimizer step."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sizes import Sizes
from torch import Tensor, nn
from torch.nn import functional as F
from workers import Contestant

LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 3e-4, 0.1, 0.2
CONFIG = Path(__file__).parents[2] / "configs" / "minillm.yaml"
SHORT = 20  # steps of the shorter of two runs


def fit(sizes: Sizes) -> Contestant:
    """`minillm fit` as it is, with its Trainer, loggers and callbacks: what n more steps add to a run."""
    from minillm.cli import main

    folder = tempfile.mkdtemp()
    flags = ["fit", "--config", str(CONFIG), "--data.batch_size", str(sizes.batch_size)]
    flags += ["--data.context_length", str(sizes.context_length), "--model.embed_dim", str(sizes.embed_dim)]
    flags += ["--model.num_layers", str(sizes.num_layers), "--model.num_heads", str(sizes.num_heads)]

    def run(steps: int) -> float:
        started = time.perf_counter()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.chdir(folder):
            main([*flags, "--trainer.max_steps", str(steps)])
        return time.perf_counter() - started

    return lambda n: run(SHORT + n) - run(SHORT)


def bare_loop(sizes: Sizes) -> Contestant:
    """The same model, windows, optimizer and precision in a loop of five lines."""
    from minillm.config import ModelConfig
    from minillm.data.windows import RandomWindows
    from minillm.model import Decoder
    from minillm.training.hardware import fastest_precision, keep_freed_memory
    from minillm.training.optimizer import adamw

    keep_freed_memory()
    windows = RandomWindows(_text(sizes), sizes.context_length, sizes.batch_size, seed=1)
    shape = (sizes.context_length, sizes.embed_dim, sizes.num_layers, sizes.num_heads)
    model = Decoder(ModelConfig(sizes.vocab_size, *shape, DROPOUT))
    optimizer = adamw(model, LEARNING_RATE, WEIGHT_DECAY, beta2=0.999)
    autocast = fastest_precision("cpu") == "bf16-mixed"

    def step(number: int) -> None:
        window = windows[number]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(window[:, :-1]).flatten(end_dim=1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return _loop(step)


def huggingface(sizes: Sizes, bf16: bool) -> Contestant:
    """Hugging Face's GPT-2 with eager attention, in a bare loop with torch's fused AdamW."""
    from transformers import GPT2Config, GPT2LMHeadModel

    more: dict[str, Any] = {"attn_implementation": "eager"}
    config = GPT2Config(
        vocab_size=sizes.vocab_size,
        n_positions=sizes.context_length,
        n_embd=sizes.embed_dim,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
        resid_pdrop=DROPOUT,
        embd_pdrop=DROPOUT,
        attn_pdrop=DROPOUT,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        **more,
    )
    model: Any = GPT2LMHeadModel(config).train()
    return _peer(sizes, model, lambda ids: model(input_ids=ids).logits, bf16)


def torch_encoder(sizes: Sizes, bf16: bool) -> Contestant:
    """A model of `torch.nn.TransformerEncoder`, pre-norm and with a causal mask."""
    width, T = sizes.embed_dim, sizes.context_length
    layer = nn.TransformerEncoderLayer(
        width, sizes.num_heads, 4 * width, DROPOUT, activation="relu", batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, sizes.num_layers, nn.LayerNorm(width), enable_nested_tensor=False)
    parts = [nn.Embedding(sizes.vocab_size, width), nn.Embedding(T, width), encoder]
    model = nn.ModuleList([*parts, nn.Linear(width, sizes.vocab_size)])
    tokens, positions, encoder, head = model
    mask = nn.Transformer.generate_square_subsequent_mask(T)
    where = torch.arange(T)

    def logits(ids: Tensor) -> Tensor:
        return head(encoder(F.dropout(tokens(ids) + positions(where), DROPOUT), mask=mask, is_causal=True))

    return _peer(sizes, model, logits, bf16)


def floor(sizes: Sizes) -> Contestant:
    """The matrix products of a step, forward and backward, in the fastest precision, and nothing else."""
    from minillm.training.hardware import fastest_precision

    dtype = torch.bfloat16 if fastest_precision("cpu") == "bf16-mixed" else torch.float32
    B, T, C, H = sizes.batch_size, sizes.context_length, sizes.embed_dim, sizes.num_heads
    linear = [(B * T, C, wide) for wide in (3 * C, C, 4 * C, 4 * C)] * sizes.num_layers + [(B * T, C, sizes.vocab_size)]
    batched = [(B * H, T, C // H, T), (B * H, T, T, C // H)] * sizes.num_layers
    products = []
    for *batch, rows, inner, columns in linear + batched:
        x, y = torch.randn(*batch, rows, inner, dtype=dtype), torch.randn(*batch, inner, columns, dtype=dtype)
        gradient = torch.randn(*batch, rows, columns, dtype=dtype)
        products += [(x, y), (gradient, y.mT), (x.mT, gradient)]

    def step(number: int) -> None:
        for x, y in products:
            torch.matmul(x, y)

    return _loop(step)


def _peer(sizes: Sizes, model: nn.Module, logits: Callable[[Tensor], Tensor], bf16: bool) -> Contestant:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    text, (B, T) = _text(sizes), (sizes.batch_size, sizes.context_length)
    offsets = torch.arange(T + 1)

    def step(number: int) -> None:
        window = text[torch.randint(len(text) - T, (B, 1)) + offsets]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(logits(window[:, :-1]).flatten(end_dim=1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return _loop(step)


def _text(sizes: Sizes) -> Tensor:
    return torch.randint(sizes.vocab_size, (1_000_000,), generator=torch.Generator().manual_seed(1))


def _loop(step: Callable[[int], None]) -> Contestant:
    def run(n: int) -> float:
        started = time.perf_counter()
        for number in range(n):
            step(number)
        return time.perf_counter() - started

    return run
