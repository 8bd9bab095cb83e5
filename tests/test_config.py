from typing import Any

import pytest

from minillm.config import ModelConfig
from minillm.model import Decoder


def config(**changes: Any) -> ModelConfig:
    settings: dict[str, Any] = {"vocab_size": 11, "context_length": 7, "embed_dim": 15, "num_heads": 3, **changes}
    return ModelConfig(**settings)


@pytest.mark.parametrize("name", ["vocab_size", "context_length", "embed_dim", "num_layers", "num_heads"])
@pytest.mark.parametrize(
    ("size", "message"),
    [(0, "must be at least 1, got 0"), (2.0, "must be an integer, got 2.0"), (True, "must be an integer, got True")],
)
def test_a_size_that_is_not_a_positive_integer_raises_with_its_name(name: str, size: object, message: str):
    with pytest.raises(ValueError, match=f"{name} {message}"):
        config(**{name: size})


@pytest.mark.parametrize("dropout", [-0.1, 1, 2.0, float("nan"), "half", True])
def test_dropout_must_be_a_probability_below_one(dropout: object):
    with pytest.raises(ValueError, match="dropout must be at least 0 and less than 1"):
        config(dropout=dropout)


def test_dropout_may_be_zero_as_an_integer():
    assert config(dropout=0).dropout == 0


@pytest.mark.parametrize("name", ["position", "norm", "activation"])
def test_a_choice_must_be_one_of_the_allowed_values(name: str):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'other'"):
        config(**{name: "other"})


@pytest.mark.parametrize("name", ["query_key_norm", "token_shift", "zero_init"])
def test_a_switch_must_be_a_bool(name: str):
    with pytest.raises(ValueError, match=f"{name} must be true or false, got 1"):
        config(**{name: 1})


def test_embed_dim_must_be_divisible_by_num_heads():
    with pytest.raises(ValueError, match="embed_dim 16 must be divisible by num_heads 3"):
        config(embed_dim=16)


def test_rotary_positions_require_an_even_head_dim():
    with pytest.raises(ValueError, match="requires an even embed_dim / num_heads, got 5"):
        config(position="rotary")
    assert [config(position="rotary", embed_dim=dim).head_dim for dim in (6, 12, 18)] == [2, 4, 6]


@pytest.mark.parametrize(("embed_dim", "swiglu"), [(3, 8), (6, 16), (7, 24), (8, 24), (9, 24), (160, 432)])
def test_feed_forward_dim_is_four_times_embed_dim_or_eight_thirds_for_swiglu_rounded_up(embed_dim: int, swiglu: int):
    assert config(embed_dim=embed_dim, num_heads=1).feed_forward_dim == 4 * embed_dim
    assert config(embed_dim=embed_dim, num_heads=1, activation="swiglu").feed_forward_dim == swiglu


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "swiglu"},
        {"norm": "rms", "query_key_norm": True, "token_shift": True, "zero_init": True},
        {"position": "rotary", "embed_dim": 18, "activation": "squared_relu"},
    ],
)
def test_weight_shapes_equal_those_of_the_decoder(options: dict[str, Any]):
    model_config = config(num_layers=3, **options)
    weights = Decoder(model_config).state_dict()
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == model_config.weight_shapes()


def test_a_config_is_immutable():
    with pytest.raises(AttributeError):
        config().embed_dim = 30  # pyright: ignore[reportAttributeAccessIssue]
