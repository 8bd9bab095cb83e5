"""Training workloads: one iteration is one optimizer step."""

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
from workers import Workload

LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 3e-4, 0.1, 0.2
CONFIG = Path(__file__).parents[2] / "configs" / "minillm.yaml"
NUM_BASE_STEPS = 20  # of the shorter of two runs, whose time is subtracted


def fit(sizes: Sizes) -> Workload:
    """Train with `minillm fit`, its Trainer, loggers and callbacks: the time that n more steps add to a run."""
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

    return lambda n: run(NUM_BASE_STEPS + n) - run(NUM_BASE_STEPS)


def bare_loop(sizes: Sizes) -> Workload:
    """Train the same model with the same windows, optimizer and precision in a plain PyTorch loop."""
    from minillm.config import ModelConfig
    from minillm.data.windows import RandomWindows, StepPartition
    from minillm.model import Decoder
    from minillm.training.hardware import fastest_precision, keep_freed_memory
    from minillm.training.optimizer import adamw

    keep_freed_memory()
    windows = RandomWindows(_text(sizes), sizes.context_length, StepPartition(sizes.batch_size), seed=1)
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

    return _repeat(step)


def huggingface(sizes: Sizes, bf16: bool) -> Workload:
    """Train Hugging Face's GPT-2 with eager attention in a plain PyTorch loop with fused AdamW."""
    from transformers import GPT2Config, GPT2LMHeadModel

    attention: dict[str, Any] = {"attn_implementation": "eager"}
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
        **attention,
    )
    model: Any = GPT2LMHeadModel(config).train()
    return _pytorch_loop(sizes, model, lambda ids: model(input_ids=ids).logits, bf16)


def torch_encoder(sizes: Sizes, bf16: bool) -> Workload:
    """Train a pre-norm `torch.nn.TransformerEncoder` with a causal mask in the same loop as GPT-2."""
    width, T = sizes.embed_dim, sizes.context_length
    layer = nn.TransformerEncoderLayer(
        width, sizes.num_heads, 4 * width, DROPOUT, activation="relu", batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, sizes.num_layers, nn.LayerNorm(width), enable_nested_tensor=False)
    embeddings = [nn.Embedding(sizes.vocab_size, width), nn.Embedding(T, width)]
    model = nn.ModuleList([*embeddings, encoder, nn.Linear(width, sizes.vocab_size)])
    token_embedding, position_embedding, encoder, head = model
    mask = nn.Transformer.generate_square_subsequent_mask(T)
    positions = torch.arange(T)

    def logits(ids: Tensor) -> Tensor:
        x = F.dropout(token_embedding(ids) + position_embedding(positions), DROPOUT)
        return head(encoder(x, mask=mask, is_causal=True))

    return _pytorch_loop(sizes, model, logits, bf16)


def floor(sizes: Sizes) -> Workload:
    """Lower bound: only the matrix products of a step, forward and backward, in the fastest precision."""
    from minillm.training.hardware import fastest_precision

    dtype = torch.bfloat16 if fastest_precision("cpu") == "bf16-mixed" else torch.float32
    B, T, C, H = sizes.batch_size, sizes.context_length, sizes.embed_dim, sizes.num_heads
    linear = [(B * T, C, out) for out in (3 * C, C, 4 * C, 4 * C)] * sizes.num_layers + [(B * T, C, sizes.vocab_size)]
    batched = [(B * H, T, C // H, T), (B * H, T, T, C // H)] * sizes.num_layers
    products = []
    for *batch, rows, inner, columns in linear + batched:
        x, y = torch.randn(*batch, rows, inner, dtype=dtype), torch.randn(*batch, inner, columns, dtype=dtype)
        gradient = torch.randn(*batch, rows, columns, dtype=dtype)
        products += [(x, y), (gradient, y.mT), (x.mT, gradient)]

    def step(number: int) -> None:
        for x, y in products:
            torch.matmul(x, y)

    return _repeat(step)


def _pytorch_loop(sizes: Sizes, model: nn.Module, logits: Callable[[Tensor], Tensor], bf16: bool) -> Workload:
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

    return _repeat(step)


def _text(sizes: Sizes) -> Tensor:
    return torch.randint(sizes.vocab_size, (1_000_000,), generator=torch.Generator().manual_seed(1))


def _repeat(step: Callable[[int], None]) -> Workload:
    def run(n: int) -> float:
        started = time.perf_counter()
        for number in range(n):
            step(number)
        return time.perf_counter() - started

    return run
