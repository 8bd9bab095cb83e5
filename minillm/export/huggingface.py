"""Hugging Face folder: a model and a tokenizer that `from_pretrained` loads without remote code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from safetensors.numpy import save

from minillm.checkpoint.validation import Checkpoint
from minillm.config import NORM_EPSILON, ROTARY_BASE, ModelConfig
from minillm.export.conversion import (
    Array,
    Weights,
    block_weights,
    center_residual_stream,
    halves_of_pairs,
    unsupported,
)
from minillm.export.huggingface_tokenizer import tokenizer_json
from minillm.generation.sampling_params import SamplingParams
from minillm.tokenizer import Tokenizer
from minillm.tokenizer.byte_pairs import END_OF_TEXT

ACTIVATIONS = {"relu": "relu", "squared_relu": "relu2"}
GPT2_PARTS: dict[str, tuple[object, ...]] = {
    "token_shift": (False,),
    "norm": ("layer",),
    "query_key_norm": (False,),
    "activation": tuple(ACTIVATIONS),
}
LLAMA_PARTS: dict[str, tuple[object, ...]] = {"token_shift": (False,), "activation": ("swiglu",)}


def huggingface_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the files of the folder by name.

    A model with learned positions is a GPT-2; with rotary positions and SwiGLU it is a Llama or, with QK-norm per
    channel, a Qwen3.

    Raises:
        ValueError: These models lack a part of this one.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    check_parts(config, "hf", GPT2_PARTS if config.position == "learned" else LLAMA_PARTS)
    convert = gpt2 if config.position == "learned" else llama
    settings, weights = convert(config, checkpoint.weights)
    settings |= {"vocab_size": config.vocab_size, "tie_word_embeddings": False, "dtype": "float32"}
    special = _special_tokens(tokenizer)
    ids: dict[str, Any] = {f"{name}_id": tokenizer.end_of_text[0] for name in special}
    ids = {"bos_token_id": None, "eos_token_id": None, **ids}
    sampling = {"do_sample": True, "temperature": SamplingParams.temperature}
    generation = {**ids, **sampling, "max_length": config.context_length}
    tokenizer_config = {
        **{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context_length, **special},
        **{"split_special_tokens": True, "clean_up_tokenization_spaces": False},
    }
    return {
        "model.safetensors": save(weights, {"format": "pt"}),
        "config.json": _json({**settings, **ids}),
        "generation_config.json": _json(generation),
        "tokenizer.json": tokenizer_json(tokenizer).encode(),
        "tokenizer_config.json": _json(tokenizer_config),
    }


def check_parts(config: ModelConfig, format: str, supported: dict[str, tuple[object, ...]]) -> None:
    """Check that a format can express all parts of a model.

    Args:
        config: Configuration of the model.
        format: Name of the format.
        supported: Values that it can express, by the name of the setting.

    Raises:
        ValueError: It cannot express one.
    """
    part = unsupported(config, supported)
    if part is None and config.query_key_norm and config.query_key_scale == "head":
        part = "query_key_scale head"
    if part is not None:
        position = "" if part.startswith("position") else f"position {config.position} and "
        raise ValueError(f"format {format} has no model with {position}{part}: pass --format onnx or safetensors")


def gpt2(config: ModelConfig, weights: Weights) -> tuple[dict[str, Any], Weights]:
    """Return the configuration and the weights of a GPT2LMHeadModel, whose biases are left out: they are 0."""
    settings: dict[str, Any] = {
        **{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
        **{"n_positions": config.context_length, "n_embd": config.embed_dim, "n_inner": config.feed_forward_dim},
        **{"n_layer": config.num_layers, "n_head": config.num_heads, "layer_norm_epsilon": NORM_EPSILON},
        **{"activation_function": ACTIVATIONS[config.activation], "attn_pdrop": 0.0},
        **{"embd_pdrop": config.dropout, "resid_pdrop": config.dropout},
    }
    names = {
        **{"attention_norm.weight": "ln_1", "attention.query_key_value.weight": "attn.c_attn"},
        **{"attention.projection.weight": "attn.c_proj", "feed_forward_norm.weight": "ln_2"},
        **{"feed_forward.expand.weight": "mlp.c_fc", "feed_forward.projection.weight": "mlp.c_proj"},
    }
    converted = {
        "transformer.wte.weight": weights["token_embedding.weight"],
        "transformer.wpe.weight": weights["position_embedding.weight"],
        **_with_bias("transformer.ln_f", weights["final_norm.weight"]),
        "lm_head.weight": weights["output_head.weight"],
    }
    for layer in range(config.num_layers):
        for name, weight in block_weights(weights, layer).items():
            converted |= _with_bias(f"transformer.h.{layer}.{names[name]}", weight.T)  # GPT-2's matrices are (in, out)
    return settings, converted


def _with_bias(name: str, weight: Array) -> Weights:
    """Return a weight of GPT-2 and its bias, which is 0."""
    return {f"{name}.weight": np.ascontiguousarray(weight), f"{name}.bias": np.zeros(weight.shape[-1], np.float32)}


def llama(config: ModelConfig, weights: Weights) -> tuple[dict[str, Any], Weights]:
    """Return the configuration and the weights of a LlamaForCausalLM or, with QK-norm, of a Qwen3ForCausalLM."""
    name, model_type = ("Qwen3ForCausalLM", "qwen3") if config.query_key_norm else ("LlamaForCausalLM", "llama")
    settings: dict[str, Any] = {
        **{"architectures": [name], "model_type": model_type, "hidden_act": "silu", "attention_bias": False},
        **{"hidden_size": config.embed_dim, "intermediate_size": config.feed_forward_dim},
        **{"num_hidden_layers": config.num_layers, "num_attention_heads": config.num_heads},
        **{"num_key_value_heads": config.num_heads, "head_dim": config.head_dim},
        **{"max_position_embeddings": config.context_length, "rms_norm_eps": NORM_EPSILON},
        **{"rope_theta": ROTARY_BASE, "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE}},
    }
    return settings, {f"{name}.weight": weight for name, weight in llama_weights(config, weights).items()}


def llama_weights(config: ModelConfig, weights: Weights, half_rotation: bool = True) -> Weights:
    """Return the weights of a Llama or Qwen3 by the names of their modules in transformers.

    Args:
        config: Configuration of the model.
        weights: Its weights.
        half_rotation: Whether the rotary embedding rotates pairs of channels (i, i + D / 2) rather than (2i, 2i + 1).
    """
    if config.norm == "layer":
        weights = center_residual_stream(weights)
    converted = {
        "model.embed_tokens": weights["token_embedding.weight"],
        "model.norm": weights["final_norm.weight"],
        "lm_head": weights["output_head.weight"],
    }
    for layer in range(config.num_layers):
        block = _llama_block(block_weights(weights, layer), config.num_heads, half_rotation)
        converted |= {f"model.layers.{layer}.{name}": weight for name, weight in block.items()}
    return {name: np.ascontiguousarray(weight) for name, weight in converted.items()}


def _llama_block(block: Weights, num_heads: int, half_rotation: bool) -> Weights:

    def reordered(rows: Array, num_heads: int) -> Array:
        return halves_of_pairs(rows, num_heads) if half_rotation else rows

    query, key, value = np.split(block["attention.query_key_value.weight"], 3)
    gate, up = np.split(block["feed_forward.expand.weight"], 2)
    converted = {
        "input_layernorm": block["attention_norm.weight"],
        "self_attn.q_proj": reordered(query, num_heads),
        "self_attn.k_proj": reordered(key, num_heads),
        "self_attn.v_proj": value,
        "self_attn.o_proj": block["attention.projection.weight"],
        "post_attention_layernorm": block["feed_forward_norm.weight"],
        "mlp.gate_proj": gate,
        "mlp.up_proj": up,
        "mlp.down_proj": block["feed_forward.projection.weight"],
    }
    if "attention.scale" in block:
        query_scale, key_scale = block["attention.scale"].reshape(2, -1)
        converted["self_attn.q_norm"] = reordered(query_scale, 1)
        converted["self_attn.k_norm"] = reordered(key_scale, 1)
    return converted


def _special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    return dict.fromkeys(("bos_token", "eos_token"), END_OF_TEXT) if tokenizer.end_of_text else {}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()
