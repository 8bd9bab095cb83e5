import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.generation.sampling import Array, keep_top_k, keep_top_p, probabilities, sample

LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
GRID = 1000


def chances(logits: Array, **settings: float) -> list[float]:
    """How often each token is chosen when the random number runs evenly through [0, 1)."""
    uniform = (np.arange(GRID) + 0.5) / GRID
    ids = sample(logits.repeat(GRID, axis=0), uniform, **settings)  # pyright: ignore[reportArgumentType]
    return (np.bincount(ids, minlength=logits.shape[-1]) / GRID).tolist()


def test_tokens_are_chosen_with_the_probabilities_of_the_softmax():
    assert chances(LOGITS) == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=1 / GRID)


def test_temperature_is_a_power_of_the_probabilities():
    squares = np.array([0.01, 0.16, 0.04, 0.09])
    assert chances(LOGITS, temperature=0.5) == pytest.approx((squares / squares.sum()).tolist(), abs=1 / GRID)


def test_top_k_keeps_the_likeliest_in_proportion():
    assert chances(LOGITS, top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1 / GRID)


def test_top_p_keeps_the_fewest_that_reach_it():
    assert chances(LOGITS, top_p=0.69) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1 / GRID)
    assert chances(LOGITS, top_p=0.71) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9], abs=1 / GRID)
    assert chances(LOGITS, top_p=0.01) == [0, 1, 0, 0]


def test_temperature_zero_and_top_k_one_take_the_likeliest():
    assert chances(LOGITS, temperature=0) == chances(LOGITS, top_k=1) == [0, 1, 0, 0]


def test_ties_with_the_last_of_top_k_stay():
    assert keep_top_k(np.array([[1.0, 2.0, 2.0, 3.0]]), 2).tolist() == [[0, 2, 2, 3]]


def test_top_p_of_one_keeps_everything():
    weights = np.exp(LOGITS)
    assert np.array_equal(keep_top_p(weights, 1.0), weights)


def test_top_p_that_is_reached_exactly_keeps_no_more():
    assert keep_top_p(np.array([[1.0, 2.0, 1.0]]), 0.5).tolist() == [[0, 2, 0]]


def test_of_equally_likely_tokens_top_p_keeps_the_first():
    assert keep_top_p(np.array([[1.0, 2.0] * 64]), 0.5).tolist() == [[0, 2] * 48 + [0, 0] * 16]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.71}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"temperature": 0}, [0, 1, 0, 0]),
    ],
)
def test_the_probabilities_that_are_told_are_those_of_the_choice(settings: dict[str, Any], expected: list[float]):
    rows = np.concatenate([LOGITS, LOGITS[:, ::-1]])
    assert probabilities(rows, **settings).tolist() == [pytest.approx(expected), pytest.approx(expected[::-1])]


def test_rows_of_a_batch_do_not_mix():
    rows = np.array([[0.0, 9.0, -math.inf], [-math.inf, 0.0, 1.0]])
    uniform = np.array([0.5, 0.5])
    apart = [sample(row[None], uniform[:1], top_k=2, top_p=0.9).item() for row in rows]
    assert sample(rows, uniform, top_k=2, top_p=0.9).tolist() == apart


@given(
    logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12),
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.0, 1e-310, 1e-6, 1e-3, 1.0, 1e3, 1e6]),
    top_k=st.none() | st.integers(1, 20),
    top_p=st.none() | st.floats(1e-6, 1.0),
)
def test_the_choice_is_always_a_token_that_the_filters_allow(
    logits: list[float], uniform: float, temperature: float, top_k: int | None, top_p: float | None
):
    row = np.array([logits], np.float32)
    (chosen,) = sample(row, np.array([uniform]), temperature, top_k, top_p).tolist()
    assert 0 <= chosen < len(logits)
    if temperature == 0 or top_k == 1:
        assert logits[chosen] == max(logits)
    if top_k is not None:
        assert sum(other > logits[chosen] for other in logits) < top_k


def shares_of(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """The definition, in plain Python: softmax, the k likeliest and their ties, the fewest that reach p."""
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    if top_k is not None:
        least = sorted(weights, reverse=True)[min(top_k, len(weights)) - 1]
        weights = [weight if weight >= least else 0.0 for weight in weights]
    if top_p is not None:
        total, reached, kept = sum(weights), 0.0, set()
        for index in sorted(range(len(weights)), key=lambda index: -weights[index]):
            if reached >= top_p * total:
                break
            kept.add(index)
            reached += weights[index]
        weights = [weight if index in kept else 0.0 for index, weight in enumerate(weights)]
    return [weight / sum(weights) for weight in weights]


@given(
    logits=st.lists(st.integers(-6, 6), min_size=1, max_size=9),  # whole numbers: many ties
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.3, 1.0, 2.7]),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.none() | st.sampled_from([0.05, 0.31, 0.77, 0.93]),
)
def test_the_random_number_falls_into_the_share_of_the_token_that_it_chooses(
    logits: list[int], uniform: float, temperature: float, top_k: int | None, top_p: float | None
):
    row, draw = np.array([logits], np.float32), np.array([uniform])
    (chosen,) = sample(row, draw, temperature, top_k, top_p).tolist()
    shares = shares_of([float(logit) for logit in logits], temperature, top_k, top_p)
    assert shares[chosen] > 0
    assert sum(shares[:chosen]) - 1e-9 <= uniform <= sum(shares[: chosen + 1]) + 1e-9
