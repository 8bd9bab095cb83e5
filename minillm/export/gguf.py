"""GGUF file for llama.cpp and the programs that are built on it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gguf

from minillm.checkpoint.validation import Checkpoint
from minillm.config import NORM_EPSILON, ROTARY_BASE
from minillm.export.conversion import Weights
from minillm.export.huggingface import LLAMA_PARTS, check_parts, llama_weights
from minillm.export.huggingface_tokenizer import byte_characters
from minillm.generation.sampling_params import SamplingParams
from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer
from minillm.tokenizer.byte_pairs import END_OF_TEXT

NAMES = {  # of transformers' modules in llama.cpp
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the file of the folder, `model.gguf`: a Llama or, with QK-norm, a Qwen3 in float32.

    Raises:
        ValueError: These models lack a part of this one.
    """
    config = checkpoint.config
    check_parts(config, "gguf", {**LLAMA_PARTS, "position": ("rotary",)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        writer = gguf.GGUFWriter(path, "qwen3" if config.query_key_norm else "llama")
        _add_settings(writer, checkpoint)
        _add_tokenizer(writer, checkpoint.tokenizer)
        for name, weight in _weights(checkpoint).items():
            writer.add_tensor(f"{name}.weight", weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return {"model.gguf": path.read_bytes()}


def _add_settings(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    writer.add_name("MiniLLM")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.embed_dim)
    writer.add_feed_forward_length(config.feed_forward_dim)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(ROTARY_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_float32("general.sampling.temp", SamplingParams.temperature)
    writer.add_int32("general.sampling.top_k", checkpoint.config.vocab_size)  # all
    writer.add_float32("general.sampling.top_p", 1.0)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Add a greedy longest-match vocabulary (that of RWKV) for characters, or byte-level BPE."""
    tokens = [tokenizer.id_to_token(token) for token in range(tokenizer.vocab_size)]
    if isinstance(tokenizer, CharTokenizer):
        writer.add_tokenizer_model("rwkv")
        tokens = [END_OF_TEXT if token == END_OF_TEXT else _escaped(token) for token in tokens]
    else:
        characters = byte_characters()
        num_tokens = tokenizer.vocab_size - len(tokenizer.special_tokens)
        tokens[:num_tokens] = [_characters(tokenizer, characters, token) for token in range(num_tokens)]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges([f"{tokens[first]} {tokens[second]}" for first, second in tokenizer.merges])
    special = {*tokenizer.end_of_text}
    types: list[Any] = [
        gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in range(len(tokens))
    ]
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_add_bos_token(bool(tokenizer.start_of_text))
    for token in tokenizer.end_of_text:
        writer.add_bos_token_id(token)
        writer.add_eos_token_id(token)


def _characters(tokenizer: BytePairTokenizer, characters: list[str], token: int) -> str:
    return "".join(characters[byte] for byte in tokenizer.token_bytes(token))


def _escaped(character: str) -> str:
    r"""Return a character as in RWKV's vocabulary, where \n, \t, \r and \\ are escape sequences."""
    return {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\"}.get(character, character)


def _weights(checkpoint: Checkpoint) -> Weights:
    """Return the weights by their names in llama.cpp.

    Its Llama rotates pairs of channels (2i, 2i + 1), as our decoder does, and its Qwen3 pairs (i, i + D / 2).
    """
    config = checkpoint.config
    weights = llama_weights(config, checkpoint.weights, half_rotation=config.query_key_norm)
    return {_name(name): weight for name, weight in weights.items()}


def _name(module: str) -> str:
    """Return the name of a module in llama.cpp: blk.0.attn_q of model.layers.0.self_attn.q_proj."""
    if not module.startswith("model.layers."):
        return NAMES[module]
    layer, name = module.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[name]}"
