import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from minillm.config import ModelConfig
from minillm.model import Decoder

V, T, C, L, H = 11, 7, 15, 2, 3


def decoder(dropout: float = 0.0, **changes: Any) -> Decoder:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": V,
        "context_length": T,
        "embed_dim": C,
        "num_layers": L,
        "num_heads": H,
        **changes,
    }
    return Decoder(ModelConfig(dropout=dropout, **settings))


GPT2_NAMES = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "final_norm": "transformer.ln_f",
    "output_head": "lm_head",
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.projection": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.projection": "mlp.c_proj",
}


def as_gpt2(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Name and value of a parameter (or gradient) in Hugging Face's GPT-2, which transposes the matrices of a block."""
    layer, suffix = name.rsplit(".", 1)
    if not layer.startswith("blocks."):
        return f"{GPT2_NAMES[layer]}.{suffix}", value
    _, number, layer = layer.split(".", 2)
    return f"transformer.h.{number}.{GPT2_NAMES[layer]}.{suffix}", value.T if value.ndim == 2 else value


def test_logits_and_gradients_equal_those_of_hugging_face_gpt2():
    model = decoder()
    with torch.no_grad():
        for parameter in model.parameters():  # larger weights than the initial ones, and norm weights other than 1
            parameter.add_(torch.randn_like(parameter) * 0.2)
    sizes: dict[str, Any] = {"vocab_size": V, "n_positions": T, "n_embd": C, "n_layer": L, "n_head": H}
    no_dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    gpt2 = GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout, activation_function="relu", tie_word_embeddings=False))
    weights = dict(as_gpt2(name, value) for name, value in model.state_dict().items())
    missing, unexpected = gpt2.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith(".bias") for name in missing)  # GPT-2 initializes its biases with 0

    ids = torch.randint(V, (3, T))
    logits, gpt2_logits = model(ids), gpt2(ids).logits
    torch.testing.assert_close(logits, gpt2_logits)

    for output in (logits, gpt2_logits):
        F.cross_entropy(output.flatten(end_dim=1), ids.flatten()).backward()
    gradients = dict(as_gpt2(name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    expected = {name: parameter.grad for name, parameter in gpt2.named_parameters() if not name.endswith(".bias")}
    torch.testing.assert_close(gradients, expected)


LLAMA_NAMES = {
    "token_embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "output_head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.projection": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.projection": "mlp.down_proj",
}


def as_llama(layer: str, weight: Tensor, num_heads: int) -> dict[str, Tensor]:
    """Names and values of a block's weight in Hugging Face's Llama, and in its Qwen3, which has QK-norm."""
    if layer == "attention.scale":
        query, key = (scale.view(-1, 2).T.flatten() for scale in weight)
        return {"self_attn.q_norm": query, "self_attn.k_norm": key}
    if layer == "attention.query_key_value":  # Llama rotates channels i and i + D / 2 as a pair, not 2i and 2i + 1
        query, key, value = weight.chunk(3)
        query, key = (part.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).reshape_as(part) for part in (query, key))
        return {"self_attn.q_proj": query, "self_attn.k_proj": key, "self_attn.v_proj": value}
    if layer == "feed_forward.expand":
        return dict(zip(("mlp.gate_proj", "mlp.up_proj"), weight.chunk(2), strict=True))
    return {LLAMA_NAMES[layer]: weight}


@pytest.mark.parametrize(
    ("peer", "config", "parts"),
    [
        (LlamaForCausalLM, LlamaConfig, {}),
        (Qwen3ForCausalLM, Qwen3Config, {"query_key_norm": True, "query_key_scale": "channel"}),
    ],
)
def test_logits_with_rotary_positions_rms_norm_and_swiglu_equal_those_of_hugging_face(
    peer: Any, config: Any, parts: dict[str, Any]
):
    model = decoder(embed_dim=12, position="rotary", norm="rms", activation="swiglu", **parts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    sizes: dict[str, Any] = {"vocab_size": V, "hidden_size": 12, "num_hidden_layers": L, "num_attention_heads": H}
    sizes |= {"num_key_value_heads": H, "head_dim": 12 // H, "intermediate_size": 32}
    constants: dict[str, Any] = {"max_position_embeddings": T, "rms_norm_eps": 1e-5, "rope_theta": 10_000}
    other = peer(config(**sizes, **constants, tie_word_embeddings=False))
    weights: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        if name.startswith("blocks."):
            _, number, layer = name.removesuffix(".weight").split(".", 2)
            llama_weights = as_llama(layer, weight, H)
            weights |= {f"model.layers.{number}.{key}.weight": value for key, value in llama_weights.items()}
        else:
            weights[f"{LLAMA_NAMES[name.removesuffix('.weight')]}.weight"] = weight
    other.load_state_dict(weights)
    ids = torch.randint(V, (3, T))
    torch.testing.assert_close(model(ids), other(ids).logits)


OPTIONS = {
    "embed_dim": 12,
    "position": "rotary",
    "norm": "rms",
    "query_key_norm": True,
    "activation": "swiglu",
    "token_shift": True,
}


@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_logits_have_gradients_from_past_and_present_tokens_but_not_from_future_ones(options: dict[str, Any]):
    model = decoder(**options)
    embedded = model.token_embedding(torch.randint(V, (1, T))).detach().requires_grad_()
    model.token_embedding.forward = lambda ids: embedded  # pyright: ignore[reportAttributeAccessIssue]
    for t in range(T):
        (gradient,) = torch.autograd.grad(model(torch.zeros(1, T, dtype=torch.long))[0, t].pow(2).sum(), embedded)
        has_gradient = gradient[0].abs().amax(dim=-1) > 0
        assert has_gradient.tolist() == [True] * (t + 1) + [False] * (T - t - 1)


def test_the_parameter_count_equals_the_closed_form():
    count = sum(parameter.numel() for parameter in decoder().parameters())
    block = 12 * C**2 + 2 * C  # matrices 3 + 1 + 4 + 4; norms 1 + 1
    assert count == 2 * V * C + T * C + L * block + C


def test_the_loss_of_an_untrained_model_is_that_of_a_uniform_distribution():
    model = decoder(vocab_size=65, context_length=64, embed_dim=128, num_heads=4)
    ids = torch.randint(65, (8, 64))
    loss = F.cross_entropy(model(ids).flatten(end_dim=1), torch.randint(65, (8 * 64,)))
    assert loss.item() == pytest.approx(math.log(65), abs=0.05)


def test_initial_weights_have_the_standard_deviations_of_gpt2():
    model = decoder(embed_dim=96, num_layers=8)
    for name, parameter in model.named_parameters():
        if name.endswith("projection.weight"):
            assert parameter.std().item() == pytest.approx(0.02 / 4, rel=0.1)  # 4 = sqrt(2 x 8 layers)
        elif parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1)
        else:
            assert parameter.unique().tolist() == [1.0]


def test_zero_init_gives_an_untrained_model_a_uniform_distribution():
    logits = decoder(zero_init=True)(torch.randint(V, (2, T)))
    assert torch.equal(logits, torch.zeros(2, T, V))


def test_zero_init_makes_the_blocks_of_an_untrained_model_the_identity():
    x = torch.randn(2, T, C)
    for block in decoder(zero_init=True).blocks:
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("options", [{}, {**OPTIONS, "zero_init": True}])
def test_the_model_can_overfit_one_batch(options: dict[str, Any]):
    model = decoder(**{**options, "embed_dim": 48})
    windows = torch.randint(V, (4, T + 1))
    windows[:, 0] = torch.arange(4)  # the first token identifies the window
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = torch.tensor(math.inf)
    for _ in range(150):
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(end_dim=1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_logits_of_a_prefix_equal_those_of_the_whole_sequence(options: dict[str, Any]):
    model, ids = decoder(**options), torch.randint(V, (2, T))
    torch.testing.assert_close(model(ids[:, :3]), model(ids)[:, :3])


@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_logits_under_autocast_are_float32_and_close_to_those_without(options: dict[str, Any]):
    model, ids = decoder(**options), torch.randint(V, (2, T))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model(ids), atol=5e-3, rtol=0)


def test_a_sequence_longer_than_the_context_raises():
    with pytest.raises(ValueError, match="sequence length 8 exceeds context_length 7"):
        decoder()(torch.zeros(1, 8, dtype=torch.long))


def test_attention_maps_reproduce_the_attention_output_of_forward():
    model, ids = decoder(), torch.randint(V, (2, T))
    maps = model.attention_maps(ids)
    assert maps.shape == (L, 2, H, T, T)
    block: Any = model.blocks[0]
    _, _, value = block.attention._project(block.attention_norm(model._embed(ids)))
    heads = (maps[0] @ value).transpose(1, 2).flatten(start_dim=2)
    output = block.attention.projection(heads)
    torch.testing.assert_close(output, block.attention(block.attention_norm(model._embed(ids))))


def test_attention_maps_of_a_layer_depend_on_the_output_of_previous_layers():
    model, ids = decoder(), torch.randint(V, (2, T))
    with torch.no_grad():
        for parameter in model.parameters():  # so that each layer changes its input considerably
            parameter.add_(torch.randn_like(parameter) * 0.2)
    inputs: list[Tensor] = []
    second = model.get_submodule("blocks.1.attention")
    second.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(ids)
    (x,) = inputs
    query, key, _ = (x @ second.get_parameter("query_key_value.weight").T).chunk(3, dim=-1)
    query, key = (part.unflatten(-1, (H, -1)).transpose(1, 2) for part in (query, key))
    scores = (query @ key.mT / math.sqrt(C / H)).masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    torch.testing.assert_close(model.attention_maps(ids)[1], scores.softmax(dim=-1))


def test_attention_maps_do_not_require_gradients():
    assert not decoder().attention_maps(torch.randint(V, (2, T))).requires_grad


def test_dropout_is_active_in_training_mode_only():
    model, ids = decoder(dropout=0.5), torch.randint(V, (2, T))
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))
