import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.model.attention import CausalSelfAttention, attention_weights

B, T, H, D = 2, 7, 3, 5


def test_weights_are_those_of_the_formula_computed_by_hand():
    query = torch.tensor([[[[1.0], [2.0]]]])
    key = torch.tensor([[[[3.0], [5.0]]]])
    second_row = torch.tensor([6.0, 10.0]).exp() / torch.tensor([6.0, 10.0]).exp().sum()
    expected = torch.stack([torch.tensor([1.0, 0.0]), second_row])
    torch.testing.assert_close(attention_weights(query, key)[0, 0], expected)


def test_attention_equals_torchs_own_in_outputs_and_gradients():
    torch.manual_seed(0)
    ours = [torch.randn(B, H, T, D, requires_grad=True) for _ in range(3)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    output = attention_weights(ours[0], ours[1]) @ ours[2]
    expected = F.scaled_dot_product_attention(theirs[0], theirs[1], theirs[2], is_causal=True)
    torch.testing.assert_close(output, expected)
    direction = torch.randn(B, H, T, D)
    output.backward(direction)
    expected.backward(direction)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_each_row_of_weights_sums_to_one_and_ignores_the_future():
    torch.manual_seed(0)
    weights = CausalSelfAttention(H * D, H, dropout=0.0).weights(torch.randn(B, T, H * D))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, H, T))
    assert torch.count_nonzero(weights.triu(diagonal=1)) == 0


def test_heads_do_not_mix_before_the_projection():
    torch.manual_seed(0)
    attention = CausalSelfAttention(H * D, H, dropout=0.0)
    attention.add_module("projection", torch.nn.Identity())
    x = torch.randn(1, T, H * D)
    before = attention(x)
    with torch.no_grad():  # the rows that make the first head's value
        attention.query_key_value.weight[2 * H * D : 2 * H * D + D] += 1
    changed = (attention(x) - before).abs().amax(dim=(0, 1)) > 1e-6
    assert changed.tolist() == [True] * D + [False] * (H - 1) * D


def torchs_weights(query: Tensor, key: Tensor) -> Tensor:
    """What torch's own attention makes of values that tell the positions apart."""
    values = torch.eye(query.shape[-2], dtype=query.dtype).expand(*query.shape[:-1], -1)
    return F.scaled_dot_product_attention(query, key, values, is_causal=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_are_as_precise_as_queries_and_keys(dtype: torch.dtype):
    torch.manual_seed(0)
    query, key = (torch.randn(B, H, T, D, dtype=dtype) for _ in range(2))
    weights = attention_weights(query, key)
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, torchs_weights(query, key))


def projected(attention: CausalSelfAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, H, T, D), each head's from rows of its own in the matrix."""
    query, key, _ = (x @ attention.query_key_value.weight.T).chunk(3, dim=-1)
    query, key = (part.reshape(B, T, H, D).transpose(1, 2) for part in (query, key))
    return query, key


def test_queries_and_keys_keep_their_lengths_by_default():
    torch.manual_seed(0)
    attention, x = CausalSelfAttention(H * D, H, dropout=0.0), torch.randn(B, T, H * D)
    expected = torchs_weights(*projected(attention, x))
    torch.testing.assert_close(attention.weights(x), expected)


def test_queries_and_keys_can_have_a_length_of_their_own_for_each_head():
    torch.manual_seed(0)
    attention = CausalSelfAttention(H * D, H, dropout=0.0, query_key_norm=True)
    assert attention.scale is not None
    torch.testing.assert_close(attention.scale, torch.full((H, 1, 1), 1.2))
    lengths = [0.5, 1.0, 3.0]
    with torch.no_grad():
        attention.scale.copy_(torch.tensor(lengths).view(H, 1, 1))
    x = torch.randn(B, T, H * D)
    query, key = (F.rms_norm(part, (D,), eps=1e-5) for part in projected(attention, x))
    for head, length in enumerate(lengths):
        expected = torchs_weights(query[:, head, None] * length, key[:, head, None] * length)
        torch.testing.assert_close(attention.weights(x)[:, head, None], expected)
