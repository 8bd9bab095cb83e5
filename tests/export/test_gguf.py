"""Read an exported file with the `gguf` package, and compute its logits with our formula of a Llama."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

import minillm as package
from minillm.tokenizer import BytePairTokenizer, CharTokenizer
from tests.export.models import ALPHABET, CONTEXT_LENGTH, save_checkpoint
from tests.export.test_huggingface import TEXT, combinations, missing_part

HF_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def exported(folder: Path, tokenizer: Any = None, **parts: Any) -> tuple[Any, gguf.GGUFReader]:
    """Export a model; return it, and a reader of its file."""
    model = save_checkpoint(folder / "model.ckpt", tokenizer, **parts)
    package.export(folder / "model.ckpt", "gguf", folder / "gguf")
    return model, gguf.GGUFReader(folder / "gguf" / "model.gguf")


def setting(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    assert field is not None
    return field.contents()


def as_peer(reader: gguf.GGUFReader) -> Any:
    """Build Hugging Face's model of the same architecture from the settings and tensors of a file."""
    name = setting(reader, "general.architecture")
    classes: dict[str, tuple[Any, Any]] = {
        "llama": (LlamaForCausalLM, LlamaConfig),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config),
    }
    constructor, config = classes[name]
    get: Any = lambda key: setting(reader, f"{name}.{key}")  # noqa: E731
    num_heads = get("attention.head_count")
    sizes: dict[str, Any] = {
        "vocab_size": get("vocab_size"),
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": get("attention.head_count_kv"),
        "head_dim": get("attention.key_length"),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base"),
    }
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        words = tensor.name.removesuffix(".weight").split(".")
        prefix = f"model.layers.{words[1]}." if words[0] == "blk" else ""
        rows = torch.from_numpy(np.array(tensor.data))
        if name == "llama" and words[-1] in ("attn_q", "attn_k"):  # llama.cpp rotates pairs (2i, 2i + 1)
            rows = rows.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).reshape_as(rows)
        weights[f"{prefix}{HF_NAMES[words[-1]]}.weight"] = rows
    peer = constructor(config(**sizes, tie_word_embeddings=False))
    peer.load_state_dict(weights)
    return peer.eval()


def expected_part(parts: dict[str, Any]) -> str | None:
    return "position learned" if parts["position"] == "learned" and not parts["token_shift"] else missing_part(parts)


@pytest.mark.parametrize("parts", combinations(), ids=lambda parts: "-".join(str(value) for value in parts.values()))
def test_every_combination_of_parts_gives_the_logits_of_ours_or_is_refused(parts: dict[str, Any], tmp_path: Path):
    if part := expected_part(parts):
        with pytest.raises(ValueError, match=f"format gguf has no model with .*{part}"):
            exported(tmp_path, **parts)
        assert not (tmp_path / "gguf").exists()
        return
    model, reader = exported(tmp_path, **parts)
    ids = torch.randint(model.config.vocab_size, (3, CONTEXT_LENGTH))
    torch.testing.assert_close(as_peer(reader)(ids).logits, model(ids), atol=1e-4, rtol=0)


PARTS: dict[str, Any] = {"position": "rotary", "activation": "swiglu"}


def test_characters_are_a_greedy_longest_match_vocabulary(tmp_path: Path):
    _, reader = exported(tmp_path, CharTokenizer(ALPHABET + "\\\t"), **PARTS)
    assert setting(reader, "tokenizer.ggml.model") == "rwkv"
    assert setting(reader, "tokenizer.ggml.tokens") == [r"\n", *ALPHABET[1:], r"\\", r"\t"]


def test_byte_pairs_keep_their_ids_and_merges(tmp_path: Path):
    tokenizer = BytePairTokenizer.from_text(TEXT * 3, 300)
    _, reader = exported(tmp_path, tokenizer, **PARTS)
    tokens: list[str] = setting(reader, "tokenizer.ggml.tokens")
    assert len(tokens) == len(set(tokens)) == 300
    assert tokens[ord("a")] == "a"
    assert tokens[ord(" ")] == "Ġ"  # as in GPT-2's vocabulary
    first, second = tokenizer.merges[0]
    assert setting(reader, "tokenizer.ggml.merges")[0] == f"{tokens[first]} {tokens[second]}"
    assert tokens[256] == tokens[first] + tokens[second]
    assert setting(reader, "tokenizer.ggml.eos_token_id") == 299
    assert setting(reader, "tokenizer.ggml.token_type")[299] == gguf.TokenType.CONTROL


@pytest.mark.parametrize("end", [None, 3])
def test_a_prompt_of_a_model_of_documents_follows_the_end_of_text(end: int | None, tmp_path: Path):
    _, reader = exported(tmp_path, CharTokenizer(ALPHABET, end_of_text_id=end), **PARTS)
    assert setting(reader, "tokenizer.ggml.add_bos_token") is (end is not None)
    if end is not None:
        assert setting(reader, "tokenizer.ggml.bos_token_id") == end


def test_sampling_parameters_are_the_defaults_of_predict(tmp_path: Path):
    model, reader = exported(tmp_path, **PARTS)
    sampling = {name: setting(reader, f"general.sampling.{name}") for name in ("temp", "top_k", "top_p")}
    assert sampling == pytest.approx({"temp": 0.8, "top_k": model.config.vocab_size, "top_p": 1})
