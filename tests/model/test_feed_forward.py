import torch

from minillm.config import Activation, ModelConfig
from minillm.model.feed_forward import FeedForward


def config(activation: Activation) -> ModelConfig:
    return ModelConfig(11, 7, embed_dim=6, num_heads=3, activation=activation)


def layer_input_and_hidden(activation: Activation) -> tuple[FeedForward, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer, x = (
        FeedForward(6, config(activation).feed_forward_dim, dropout=0.0, activation=activation),
        torch.randn(5, 6),
    )
    return layer, x, x @ layer.expand.weight.T


def test_relu_zeroes_negative_hidden_values():
    layer, x, hidden = layer_input_and_hidden("relu")
    torch.testing.assert_close(layer(x), torch.where(hidden > 0, hidden, 0) @ layer.projection.weight.T)


def test_squared_relu_squares_positive_hidden_values():
    layer, x, hidden = layer_input_and_hidden("squared_relu")
    torch.testing.assert_close(layer(x), torch.where(hidden > 0, hidden**2, 0) @ layer.projection.weight.T)


def test_swiglu_gates_one_half_by_the_silu_of_the_other_with_as_many_weights_as_relu():
    layer, x, hidden = layer_input_and_hidden("swiglu")
    gate, value = hidden[:, :16], hidden[:, 16:]
    torch.testing.assert_close(layer(x), (gate * torch.sigmoid(gate) * value) @ layer.projection.weight.T)
    count = sum(weight.numel() for weight in layer.parameters())
    assert count == sum(weight.numel() for weight in layer_input_and_hidden("relu")[0].parameters()) == 8 * 6**2
