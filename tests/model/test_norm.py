import torch
from torch import nn

from minillm.model.norm import RMSNorm


def test_outputs_and_gradients_equal_those_of_torch_rms_norm():
    norm, torch_norm, x = RMSNorm(7), nn.RMSNorm(7, eps=1e-5), torch.randn(3, 5, 7, requires_grad=True)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(7))
        torch_norm.weight.copy_(norm.weight)
    torch.testing.assert_close(norm(x), torch_norm(x))
    gradient, expected = (torch.autograd.grad(module(x).pow(3).sum(), x)[0] for module in (norm, torch_norm))
    torch.testing.assert_close(gradient, expected)


def test_the_dtype_is_preserved():
    assert RMSNorm(7)(torch.randn(3, 7, dtype=torch.bfloat16)).dtype == torch.bfloat16
