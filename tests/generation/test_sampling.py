import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.generation.sampling import Array, keep_top_k, keep_top_p, probabilities, sample

LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
GRID = 1000


def frequencies(logits: Array, **settings: float) -> list[float]:
    """Relative frequency of each token over evenly spaced random numbers in [0, 1)."""
    uniform = (np.arange(GRID) + 0.5) / GRID
    ids = sample(logits.repeat(GRID, axis=0), uniform, **settings)  # pyright: ignore[reportArgumentType]
    return (np.bincount(ids, minlength=logits.shape[-1]) / GRID).tolist()


def test_tokens_are_sampled_with_softmax_probabilities():
    assert frequencies(LOGITS) == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=1 / GRID)


def test_temperature_raises_the_probabilities_to_a_power():
    squares = np.array([0.01, 0.16, 0.04, 0.09])
    assert frequencies(LOGITS, temperature=0.5) == pytest.approx((squares / squares.sum()).tolist(), abs=1 / GRID)


def test_top_k_keeps_the_k_likeliest_tokens_in_proportion():
    assert frequencies(LOGITS, top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1 / GRID)


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    assert frequencies(LOGITS, top_p=0.69) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1 / GRID)
    assert frequencies(LOGITS, top_p=0.71) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9], abs=1 / GRID)
    assert frequencies(LOGITS, top_p=0.01) == [0, 1, 0, 0]


def test_temperature_zero_and_top_k_one_select_the_likeliest_token():
    assert frequencies(LOGITS, temperature=0) == frequencies(LOGITS, top_k=1) == [0, 1, 0, 0]


def test_top_k_keeps_ties_with_the_last_token():
    assert keep_top_k(np.array([[1.0, 2.0, 2.0, 3.0]]), 2).tolist() == [[0, 2, 2, 3]]


def test_top_p_of_one_keeps_all_tokens():
    weights = np.exp(LOGITS)
    assert np.array_equal(keep_top_p(weights, 1.0), weights)


def test_top_p_reached_exactly_keeps_no_further_token():
    assert keep_top_p(np.array([[1.0, 2.0, 1.0]]), 0.5).tolist() == [[0, 2, 0]]


def test_top_p_keeps_the_first_of_equally_likely_tokens():
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
def test_probabilities_match_the_sampling_distribution(settings: dict[str, Any], expected: list[float]):
    rows = np.concatenate([LOGITS, LOGITS[:, ::-1]])
    assert probabilities(rows, **settings).tolist() == [pytest.approx(expected), pytest.approx(expected[::-1])]


def test_rows_of_a_batch_are_independent():
    rows = np.array([[0.0, 9.0, -math.inf], [-math.inf, 0.0, 1.0]])
    uniform = np.array([0.5, 0.5])
    separate = [sample(row[None], uniform[:1], top_k=2, top_p=0.9).item() for row in rows]
    assert sample(rows, uniform, top_k=2, top_p=0.9).tolist() == separate


@given(
    logits=st.lists(st.integers(-80_000, 80_000).map(lambda n: n / 8), min_size=1, max_size=12),  # exact in float32
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.0, 1e-310, 1e-6, 1e-3, 1.0, 1e3, 1e6]),
    top_k=st.none() | st.integers(1, 20),
    top_p=st.none() | st.floats(1e-6, 1.0),
)
def test_the_sampled_token_always_passes_the_filters(
    logits: list[float], uniform: float, temperature: float, top_k: int | None, top_p: float | None
):
    row = np.array([logits], np.float32)
    (token,) = sample(row, np.array([uniform]), temperature, top_k, top_p).tolist()
    assert 0 <= token < len(logits)
    if temperature == 0 or top_k == 1:
        assert logits[token] == max(logits)
    if top_k is not None:
        assert sum(other > logits[token] for other in logits) < top_k


def reference_probabilities(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> list[float]:
    """The definition in plain Python: softmax, then the k likeliest with ties, then the fewest that reach p."""
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    if top_k is not None:
        threshold = sorted(weights, reverse=True)[min(top_k, len(weights)) - 1]
        weights = [weight if weight >= threshold else 0.0 for weight in weights]
    if top_p is not None:
        total, cumulative, kept = sum(weights), 0.0, set()
        for index in sorted(range(len(weights)), key=lambda index: -weights[index]):
            if cumulative >= top_p * total:
                break
            kept.add(index)
            cumulative += weights[index]
        weights = [weight if index in kept else 0.0 for index, weight in enumerate(weights)]
    return [weight / sum(weights) for weight in weights]


@given(
    logits=st.lists(st.integers(-6, 6), min_size=1, max_size=9),  # integers, for many ties
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.3, 1.0, 2.7]),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.none() | st.sampled_from([0.05, 0.31, 0.77, 0.93]),
)
def test_the_random_number_lies_in_the_cumulative_interval_of_the_sampled_token(
    logits: list[int], uniform: float, temperature: float, top_k: int | None, top_p: float | None
):
    row, draw = np.array([logits], np.float32), np.array([uniform])
    (token,) = sample(row, draw, temperature, top_k, top_p).tolist()
    expected = reference_probabilities([float(logit) for logit in logits], temperature, top_k, top_p)
    assert expected[token] > 0
    assert sum(expected[:token]) - 1e-9 <= uniform <= sum(expected[: token + 1]) + 1e-9
