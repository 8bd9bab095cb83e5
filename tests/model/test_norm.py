import torch
from torch import nn

from minillm.model.norm import RMSNorm


def test_it_is_torchs():
    ours, theirs, x = RMSNorm(7), nn.RMSNorm(7, eps=1e-5), torch.randn(3, 5, 7, requires_grad=True)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(7))
        theirs.weight.copy_(ours.weight)
    torch.testing.assert_close(ours(x), theirs(x))
    ours_gradient, theirs_gradient = (torch.autograd.grad(norm(x).pow(3).sum(), x)[0] for norm in (ours, theirs))
    torch.testing.assert_close(ours_gradient, theirs_gradient)


def test_the_type_stays():
    assert RMSNorm(7)(torch.randn(3, 7, dtype=torch.bfloat16)).dtype == torch.bfloat16
