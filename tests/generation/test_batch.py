import random

import numpy as np
import pytest
import torch

from minillm.config import ModelConfig
from minillm.generation.batch import ContinuousBatch, Sequence
from minillm.generation.generate import generate_ids
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.model import Decoder

V, CONTEXT = 13, 11
PARTS = [{}, {"position": "rotary", "norm": "rms", "query_key_norm": True, "activation": "swiglu", "token_shift": True}]
SETTINGS = [
    SamplingParams(0x7FFF, 0.0),
    SamplingParams(seed=1),
    SamplingParams(seed=2, top_k=3),
    SamplingParams(seed=3, top_p=0.7),
]


@pytest.fixture(scope="module", params=PARTS, ids=["reference", "everything else"])
def decoder(request: pytest.FixtureRequest) -> NumpyDecoder:
    torch.manual_seed(0)
    model = Decoder(ModelConfig(V, CONTEXT, embed_dim=12, num_layers=3, num_heads=2, **request.param))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return NumpyDecoder.of(model)


def alone(decoder: NumpyDecoder, prompt: list[int], settings: SamplingParams, count: int) -> list[int]:
    made = generate_ids(decoder, np.array(prompt), [random.Random(settings.seed)], settings)
    return [int(newest[0]) for newest, _ in zip(made, range(count), strict=False)]


def test_texts_that_come_and_go_are_those_written_alone(decoder: NumpyDecoder):
    """Texts of different lengths, settings and prompts join at random moments, and leave when they are long enough."""
    chance = random.Random(0)
    prompts = [[chance.randrange(V) for _ in range(chance.randrange(1, 2 * CONTEXT))] for _ in range(20)]
    lengths = [chance.randrange(1, 4 * CONTEXT) for _ in prompts]
    batch, made, coming, there = ContinuousBatch(decoder, capacity=6), [[] for _ in prompts], list(range(20)), {}
    while coming or there:
        while coming and len(batch) < batch.capacity and chance.random() < 0.4:
            number = coming.pop()
            row = Sequence(prompts[number], SETTINGS[number % 4])
            there[row] = number
            batch.add(row)
        for row in batch.step() if there else []:
            made[there[row]].append(row.window[-1])
        for row in [row for row, number in there.items() if len(made[number]) == lengths[number]]:
            batch.remove(row)
            del there[row]
    assert made == [alone(decoder, prompts[n], SETTINGS[n % 4], lengths[n]) for n in range(20)]


def test_a_text_may_leave_before_it_was_read(decoder: NumpyDecoder):
    batch = ContinuousBatch(decoder, capacity=8)
    rows = [Sequence([1, 2, 3], SamplingParams(seed=seed)) for seed in range(8)]
    for row in rows:
        batch.add(row)
    for row in rows[::2]:
        batch.remove(row)
    assert batch.step() == rows[1::2]
    assert [row.window[-1] for row in rows[1::2]] == [
        alone(decoder, [1, 2, 3], SamplingParams(seed=n), 1)[0] for n in (1, 3, 5, 7)
    ]


def test_the_scores_are_those_that_the_newest_token_was_chosen_by(decoder: NumpyDecoder):
    batch, rows = (
        ContinuousBatch(decoder, 3),
        [Sequence([token], SamplingParams(temperature=0.0)) for token in (1, 2, 3)],
    )
    for row in rows:
        batch.add(row)
    for _ in range(3 * CONTEXT):
        batch.step()
        assert [row.window[-1] for row in rows] == [int(row.logits.argmax()) for row in rows]
