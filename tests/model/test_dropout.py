import math

import pytest
import torch

from minillm.model.dropout import Dropout

SIZE = 100_003


@pytest.mark.parametrize("p", [0.004, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_a_fraction_of_one_minus_p_is_kept_and_scaled_by_its_inverse(p: float):
    torch.manual_seed(0)
    dropped_fraction = min(round(256 * p), 255) / 256
    output = Dropout(p)(torch.ones(SIZE))
    kept_fraction = torch.count_nonzero(output).item() / SIZE
    standard_error = (dropped_fraction * (1 - dropped_fraction) / SIZE) ** 0.5
    assert abs(kept_fraction - (1 - dropped_fraction)) < 5 * standard_error
    assert output.unique().tolist() == pytest.approx([0, 1 / (1 - dropped_fraction)])


def test_neighbouring_elements_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(SIZE)) > 0).float() - 0.5
    for distance in range(1, 17):  # covers the eight bytes of one draw
        correlation = (kept[distance:] * kept[:-distance]).mean() * 4
        assert abs(correlation) < 5 / SIZE**0.5


def test_gradients_have_the_mask_and_scale_of_the_output():
    x = torch.randn(7, 11, requires_grad=True)
    output = Dropout(0.3)(x)
    output.sum().backward()
    torch.testing.assert_close(x.grad, (output / x).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_shape_are_preserved(dtype: torch.dtype):
    output = Dropout(0.2)(torch.ones(2, 3, 5, dtype=dtype))
    assert (output.dtype, output.shape) == (dtype, (2, 3, 5))


def test_two_calls_differ_and_are_reproducible_by_seed():
    dropout, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


def test_dropout_is_the_identity_in_evaluation_mode_and_with_p_zero():
    x = torch.randn(13)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_dropout_with_p_zero_draws_no_random_numbers():
    before = torch.get_rng_state()
    Dropout(0.0)(torch.ones(13))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16])
def test_eight_elements_consume_one_random_draw(size: int):
    torch.manual_seed(3)
    Dropout(0.5)(torch.ones(size))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    torch.empty(math.ceil(size / 8), dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(torch.get_rng_state(), after)


def test_repr_shows_the_probability():
    assert repr(Dropout(0.2)) == "Dropout(p=0.2)"


def test_the_output_is_on_the_device_of_the_input():
    assert Dropout(0.5)(torch.empty(13, device="meta")).device.type == "meta"
