import math

import pytest
import torch

from minillm.model.position import RotaryEmbedding, TokenShift

T, D = 7, 6


def test_a_pair_of_channels_is_rotated_by_position_times_frequency():
    rotary, x = RotaryEmbedding(T, D), torch.randn(2, T, D)
    rotated = rotary(x)
    for t in range(T):
        for pair in range(D // 2):
            angle = t * 10_000 ** (-2 * pair / D)
            a, b = x[1, t, 2 * pair].item(), x[1, t, 2 * pair + 1].item()
            expected = [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
            assert rotated[1, t, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(expected, abs=1e-5)


def test_bfloat16_is_rotated_in_float32_and_returned_as_bfloat16():
    torch.manual_seed(0)
    x, rotary = torch.randn(2, T, D, dtype=torch.bfloat16), RotaryEmbedding(T, D)
    angles = torch.outer(torch.arange(T), 10_000 ** -(torch.arange(0, D, 2) / D))
    a, b = x.float()[..., ::2], x.float()[..., 1::2]
    expected = torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)
    torch.testing.assert_close(rotary(x), expected.flatten(start_dim=2).bfloat16())


def test_scores_of_rotated_queries_and_keys_depend_only_on_their_distance():
    rotary = RotaryEmbedding(T, D)
    query, key = (rotary(torch.randn(D).expand(T, D)) for _ in range(2))
    scores = query @ key.T
    for distance in range(T):
        torch.testing.assert_close(scores.diagonal(-distance), scores[distance, 0].expand(T - distance))


def test_token_shift_blends_each_position_with_the_previous_one():
    shift, x = TokenShift(3), torch.randn(2, 5, 3)
    assert torch.equal(shift(x), x)
    with torch.no_grad():
        shift.mix.copy_(torch.tensor([0.0, 0.25, 1.0]))
    shifted = shift(x)
    assert torch.equal(shifted[..., 0], x[..., 0])
    torch.testing.assert_close(shifted[:, 1:, 1], 0.75 * x[:, 1:, 1] + 0.25 * x[:, :-1, 1])
    torch.testing.assert_close(shifted[:, 1:, 2], x[:, :-1, 2])
    torch.testing.assert_close(shifted[:, 0], x[:, 0] * torch.tensor([1, 0.75, 0]))
