"""Routes that show how the model computes its predictions: attention weights and the logit lens."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
from fastapi import Request

from minillm.generation.sampling import Array, probabilities
from minillm.serve.completions import encode
from minillm.serve.engine import Engine
from minillm.serve.errors import RefusedError
from minillm.serve.requests import MAX_SHOWN, AttentionRequest, InsideRequest
from minillm.serve.responses import Attention, AttentionMaps, LensToken, LogitLens

NUM_LENS_TOKENS = 3  # per block and position


async def show_attention(body: AttentionRequest, request: Request) -> Attention:
    """Compute the attention weights of one head for a text."""
    _, engine = await request.app.state.models.get(body.model)
    decoder, tokenizer = engine.decoder, engine.tokenizer
    for name, number in (("layer", decoder.config.num_layers), ("head", decoder.config.num_heads)):
        if getattr(body, name) >= number:
            raise RefusedError(400, f"{name} must be below {number}, got {getattr(body, name)}", name)
    _, ids = encode(tokenizer, body.text, body.on_unknown, "text")
    ids = ids[-decoder.config.context_length :]
    _, weights = await asyncio.to_thread(decoder.logits_and_attention, np.array([ids]))
    rows = weights[body.layer, 0, body.head].astype(float).round(4).tolist()
    return Attention(
        tokens=[tokenizer.id_to_token(token) for token in ids], weights=[row[: t + 1] for t, row in enumerate(rows)]
    )


async def show_attention_maps(body: InsideRequest, request: Request) -> AttentionMaps:
    """Compute the attention weights of all heads for a text."""
    _, engine = await request.app.state.models.get(body.model)
    ids = _shown_ids(engine, body)
    _, weights = await asyncio.to_thread(engine.decoder.logits_and_attention, np.array([ids]))
    bytes_of_heads = (weights[:, 0] * 255).round().astype(np.uint8)
    maps = [[base64.b64encode(head.tobytes()).decode() for head in layer] for layer in bytes_of_heads]
    return AttentionMaps(tokens=[engine.tokenizer.id_to_token(token) for token in ids], maps=maps)


async def show_logit_lens(body: InsideRequest, request: Request) -> LogitLens:
    """Compute what the model would predict after each block: the logit lens."""
    _, engine = await request.app.state.models.get(body.model)
    ids = _shown_ids(engine, body)
    layers = await asyncio.to_thread(_likeliest_by_layer, engine, ids)
    return LogitLens(tokens=[engine.tokenizer.id_to_token(token) for token in ids], layers=layers)


def _likeliest_by_layer(engine: Engine, ids: list[int]) -> list[list[list[LensToken]]]:
    """Return the most probable next tokens by block and position; one block at a time, as a vocabulary can be large."""
    layers: list[list[list[LensToken]]] = []
    for logits in engine.decoder.logit_lens(np.array([ids])):
        likely = probabilities(logits[0])
        largest = np.argsort(-likely, axis=-1, kind="stable")[:, :NUM_LENS_TOKENS].tolist()
        layers.append([_lens_tokens(engine, row, tokens) for row, tokens in zip(likely, largest, strict=True)])
    return layers


def _lens_tokens(engine: Engine, likely: Array, tokens: list[int]) -> list[LensToken]:
    name = engine.tokenizer.id_to_token
    return [LensToken(token=name(token), probability=round(float(likely[token]), 4)) for token in tokens]


def _shown_ids(engine: Engine, body: InsideRequest) -> list[int]:
    """Return the last token ids of a text, as many as are shown."""
    _, ids = encode(engine.tokenizer, body.text, body.on_unknown, "text")
    return ids[-min(engine.decoder.config.context_length, MAX_SHOWN) :]
