import torch
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
