import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.model.attention import CausalSelfAttention, attention_weights

B, T, H, D = 2, 7, 3, 5


def test_weights_equal_the_formula_computed_by_hand():
    query = torch.tensor([[[[1.0], [2.0]]]])
    key = torch.tensor([[[[3.0], [5.0]]]])
    second_row = torch.tensor([6.0, 10.0]).exp() / torch.tensor([6.0, 10.0]).exp().sum()
    expected = torch.stack([torch.tensor([1.0, 0.0]), second_row])
    torch.testing.assert_close(attention_weights(query, key)[0, 0], expected)


def test_outputs_and_gradients_equal_those_of_torch_scaled_dot_product_attention():
    torch.manual_seed(0)
    inputs = [torch.randn(B, H, T, D, requires_grad=True) for _ in range(3)]
    torch_inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = attention_weights(inputs[0], inputs[1]) @ inputs[2]
    expected = F.scaled_dot_product_attention(torch_inputs[0], torch_inputs[1], torch_inputs[2], is_causal=True)
    torch.testing.assert_close(output, expected)
    output_gradient = torch.randn(B, H, T, D)
    output.backward(output_gradient)
    expected.backward(output_gradient)
    for tensor, torch_tensor in zip(inputs, torch_inputs, strict=True):
        torch.testing.assert_close(tensor.grad, torch_tensor.grad)


def test_each_row_of_weights_sums_to_one_and_is_zero_for_future_positions():
    torch.manual_seed(0)
    weights = CausalSelfAttention(H * D, H, dropout=0.0).weights(torch.randn(B, T, H * D))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, H, T))
    assert torch.count_nonzero(weights.triu(diagonal=1)) == 0


def test_heads_are_independent_before_the_output_projection():
    torch.manual_seed(0)
    attention = CausalSelfAttention(H * D, H, dropout=0.0)
    attention.add_module("projection", torch.nn.Identity())
    x = torch.randn(1, T, H * D)
    before = attention(x)
    with torch.no_grad():  # the rows of the first head's value projection
        attention.query_key_value.weight[2 * H * D : 2 * H * D + D] += 1
    changed = (attention(x) - before).abs().amax(dim=(0, 1)) > 1e-6
    assert changed.tolist() == [True] * D + [False] * (H - 1) * D


def torch_weights(query: Tensor, key: Tensor) -> Tensor:
    """Attention weights of torch's own implementation, read off with one-hot values."""
    values = torch.eye(query.shape[-2], dtype=query.dtype).expand(*query.shape[:-1], -1)
    return F.scaled_dot_product_attention(query, key, values, is_causal=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_are_computed_in_the_dtype_of_queries_and_keys(dtype: torch.dtype):
    torch.manual_seed(0)
    query, key = (torch.randn(B, H, T, D, dtype=dtype) for _ in range(2))
    weights = attention_weights(query, key)
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, torch_weights(query, key))


def project(attention: CausalSelfAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, H, T, D) of an input (B, T, C); each head has its own rows of the weight."""
    query, key, _ = (x @ attention.query_key_value.weight.T).chunk(3, dim=-1)
    query, key = (part.reshape(B, T, H, D).transpose(1, 2) for part in (query, key))
    return query, key


def test_queries_and_keys_are_not_normalized_by_default():
    torch.manual_seed(0)
    attention, x = CausalSelfAttention(H * D, H, dropout=0.0), torch.randn(B, T, H * D)
    expected = torch_weights(*project(attention, x))
    torch.testing.assert_close(attention.weights(x), expected)


def test_qk_norm_scales_normalized_queries_and_keys_per_head():
    torch.manual_seed(0)
    attention = CausalSelfAttention(H * D, H, dropout=0.0, query_key_scale=(H, 1, 1))
    assert attention.scale is not None
    torch.testing.assert_close(attention.scale, torch.full((H, 1, 1), 1.2))
    scales = [0.5, 1.0, 3.0]
    with torch.no_grad():
        attention.scale.copy_(torch.tensor(scales).view(H, 1, 1))
    x = torch.randn(B, T, H * D)
    query, key = (F.rms_norm(part, (D,), eps=1e-5) for part in project(attention, x))
    for head, scale in enumerate(scales):
        expected = torch_weights(query[:, head, None] * scale, key[:, head, None] * scale)
        torch.testing.assert_close(attention.weights(x)[:, head, None], expected)


def test_qk_norm_can_scale_each_channel_of_queries_and_keys():
    torch.manual_seed(0)
    attention = CausalSelfAttention(H * D, H, dropout=0.0, query_key_scale=(2, 1, 1, 1, D))
    assert attention.scale is not None
    query_scale, key_scale = torch.rand(D) + 0.5, torch.rand(D) + 0.5
    with torch.no_grad():
        attention.scale.copy_(torch.stack([query_scale, key_scale]).view(2, 1, 1, 1, D))
    x = torch.randn(B, T, H * D)
    query, key = project(attention, x)
    query, key = F.rms_norm(query, (D,), query_scale, eps=1e-5), F.rms_norm(key, (D,), key_scale, eps=1e-5)
    torch.testing.assert_close(attention.weights(x), torch_weights(query, key))
