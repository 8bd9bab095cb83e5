import numpy as np
import pytest
import torch

from minillm.config import ModelConfig
from minillm.generation import numpy_decoder
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.model import Decoder
from minillm.model.kv_cache import KVCache

B, T, V = 3, 11, 13


PARTS = [
    {},
    {"position": "rotary"},
    {"norm": "rms"},
    {"query_key_norm": True},
    {"query_key_norm": True, "query_key_scale": "channel", "position": "rotary"},
    {"activation": "squared_relu"},
    {"activation": "swiglu"},
    {"token_shift": True},
    {"position": "rotary", "norm": "rms", "query_key_norm": True, "activation": "swiglu", "token_shift": True},
]


@pytest.fixture(scope="module", params=PARTS, ids=lambda parts: "-".join(parts) or "reference")
def model(request: pytest.FixtureRequest) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(V, T, embed_dim=12, num_layers=3, num_heads=2, dropout=0.5, **request.param))
    with torch.no_grad():
        for parameter in decoder.parameters():  # larger weights than at initialization, also in norms
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return decoder.eval()


@pytest.mark.parametrize("cuts", [[T], [1] * T, [5, 1, 1, 4], [2, 9]])
def test_logits_with_a_kv_cache_match_those_without_for_any_split_into_steps(model: Decoder, cuts: list[int]):
    ids = torch.randint(V, (B, T))
    cache, logits = KVCache(model.config, B), list[torch.Tensor]()
    for new in ids.split(cuts, dim=1):
        logits.append(model(new, cache))
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids).detach(), atol=2e-5, rtol=0)
    with pytest.raises(ValueError, match=f"sequence length {T + 1} exceeds context_length {T}"):
        model(ids[:, :1], cache)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("cuts", [[T], [1] * T, [5, 1, 1, 4], [2, 9]])
def test_logits_match_the_pytorch_decoder_for_any_split_into_steps(
    model: Decoder, cuts: list[int], is_large: bool, monkeypatch: pytest.MonkeyPatch
):
    if is_large:
        monkeypatch.setattr(numpy_decoder, "MIN_UNCACHED", 0)
    ids = torch.randint(V, (B, T))
    expected = model(ids).detach().numpy()
    decoder = NumpyDecoder.from_model(model)
    cache, end = decoder.new_cache(B), 0
    for count in cuts:
        end += count
        logits = decoder(ids[:, end - count : end].numpy(), cache)
        np.testing.assert_allclose(logits, expected[:, end - 1], atol=2e-5)


def test_from_model_copies_the_current_weights(model: Decoder):
    old, ids = NumpyDecoder.from_model(model), np.array([[1, 2]])
    before = old(ids, old.new_cache(1))
    with torch.no_grad():
        for weight in ("final_norm.weight", "output_head.weight"):
            model.get_parameter(weight).mul_(2)
    new = NumpyDecoder.from_model(model)
    np.testing.assert_allclose(new(ids, new.new_cache(1)), 4 * before, rtol=1e-5)
    np.testing.assert_array_equal(old(ids, old.new_cache(1)), before)


def test_a_large_model_reads_few_rows_from_weights_in_the_order_of_its_outputs(monkeypatch: pytest.MonkeyPatch):
    model = Decoder(ModelConfig(V, T, embed_dim=12, num_layers=1, num_heads=2))
    small = NumpyDecoder.from_model(model)
    monkeypatch.setattr(numpy_decoder, "MIN_UNCACHED", 0)
    large = NumpyDecoder.from_model(model)
    assert all(layer.by_output is None for layer in small.linear.values())
    for name, layer in large.linear.items():
        assert layer.by_output is not None
        assert layer.by_output.flags.c_contiguous
        np.testing.assert_array_equal(layer.by_output, model.get_parameter(name + ".weight").detach())
        np.testing.assert_array_equal(layer.by_output.T, layer.by_input)


def test_config_weight_shapes_match_the_decoder(model: Decoder):
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert model.config.weight_shapes() == shapes
