import random

import numpy as np
import pytest
import torch

from minillm.config import ModelConfig
from minillm.generation.batch import ContinuousBatch, Sequence
from minillm.generation.decoder import InferenceDecoder
from minillm.generation.generate import generate_ids
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.torch_decoder import TorchDecoder
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
def model(request: pytest.FixtureRequest) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(ModelConfig(V, CONTEXT, embed_dim=12, num_layers=3, num_heads=2, **request.param))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module", params=[NumpyDecoder.from_model, TorchDecoder], ids=["NumPy", "PyTorch"])
def decoder(request: pytest.FixtureRequest, model: Decoder) -> InferenceDecoder:
    return request.param(model)


def alone(decoder: InferenceDecoder, prompt: list[int], settings: SamplingParams, count: int) -> list[int]:
    steps = generate_ids(decoder, np.array(prompt), [random.Random(settings.seed)], settings)
    return [int(newest[0]) for newest, _ in zip(steps, range(count), strict=False)]


def test_sequences_that_join_and_leave_get_the_same_tokens_as_alone(decoder: InferenceDecoder):
    """Sequences of different lengths, settings and prompts join at random steps, and leave at their length."""
    rng = random.Random(0)
    prompts = [[rng.randrange(V) for _ in range(rng.randrange(1, 2 * CONTEXT))] for _ in range(20)]
    lengths = [rng.randrange(1, 4 * CONTEXT) for _ in prompts]
    batch, generated = ContinuousBatch(decoder, capacity=6), [[] for _ in prompts]
    waiting, running = list(range(20)), {}
    while waiting or running:
        while waiting and len(batch) < batch.capacity and rng.random() < 0.4:
            index = waiting.pop()
            sequence = Sequence(prompts[index], SETTINGS[index % 4])
            running[sequence] = index
            batch.add(sequence)
        for sequence in batch.step() if running else []:
            generated[running[sequence]].append(sequence.window[-1])
        for sequence in [each for each, index in running.items() if len(generated[index]) == lengths[index]]:
            batch.remove(sequence)
            del running[sequence]
    assert generated == [alone(decoder, prompts[n], SETTINGS[n % 4], lengths[n]) for n in range(20)]


def test_a_sequence_can_be_removed_before_its_prefill(decoder: InferenceDecoder):
    batch = ContinuousBatch(decoder, capacity=8)
    sequences = [Sequence([1, 2, 3], SamplingParams(seed=seed)) for seed in range(8)]
    for sequence in sequences:
        batch.add(sequence)
    for sequence in sequences[::2]:
        batch.remove(sequence)
    assert batch.step() == sequences[1::2]
    assert [sequence.window[-1] for sequence in sequences[1::2]] == [
        alone(decoder, [1, 2, 3], SamplingParams(seed=n), 1)[0] for n in (1, 3, 5, 7)
    ]


def test_the_logits_of_a_sequence_are_those_of_its_newest_token(decoder: InferenceDecoder):
    batch, sequences = (
        ContinuousBatch(decoder, 3),
        [Sequence([token], SamplingParams(temperature=0.0)) for token in (1, 2, 3)],
    )
    for sequence in sequences:
        batch.add(sequence)
    for _ in range(3 * CONTEXT):
        batch.step()
        assert [each.window[-1] for each in sequences] == [int(each.logits.argmax()) for each in sequences]
