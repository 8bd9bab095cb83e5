import torch

from minillm.config import Activation, ModelConfig
from minillm.model.feed_forward import FeedForward


def config(activation: Activation) -> ModelConfig:
    return ModelConfig(11, 7, embed_dim=6, num_heads=3, activation=activation)


def widened(activation: Activation) -> tuple[FeedForward, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer, x = (
        FeedForward(6, config(activation).feed_forward_dim, dropout=0.0, activation=activation),
        torch.randn(5, 6),
    )
    return layer, x, x @ layer.expand.weight.T


def test_relu_drops_what_is_negative():
    layer, x, wide = widened("relu")
    torch.testing.assert_close(layer(x), torch.where(wide > 0, wide, 0) @ layer.projection.weight.T)


def test_squared_relu_squares_what_is_left():
    layer, x, wide = widened("squared_relu")
    torch.testing.assert_close(layer(x), torch.where(wide > 0, wide**2, 0) @ layer.projection.weight.T)


def test_swiglu_opens_and_closes_one_half_by_the_other_with_no_more_weights():
    layer, x, wide = widened("swiglu")
    gate, value = wide[:, :16], wide[:, 16:]
    torch.testing.assert_close(layer(x), (gate * torch.sigmoid(gate) * value) @ layer.projection.weight.T)
    count = sum(weight.numel() for weight in layer.parameters())
    assert count == sum(weight.numel() for weight in widened("relu")[0].parameters()) == 8 * 6**2
