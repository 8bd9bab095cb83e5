import random
from collections import defaultdict

import numpy as np
import pytest
import torch

from minillm.config import ModelConfig
from minillm.generation.generate import generate, generate_batch, generate_ids
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling import sample
from minillm.generation.sampling_params import SamplingParams
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\nabcde")


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(TOKENIZER.vocab_size, 7, embed_dim=8, num_layers=1, num_heads=2, dropout=0.5))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(4)  # the logits of an untrained model are nearly uniform
    return decoder.eval()


def text(model: Decoder, prompt: str = "ab", **settings: object) -> str:
    return "".join(generate(model, TOKENIZER, prompt, **{"max_new_tokens": 40, "seed": 1, **settings}))  # pyright: ignore[reportArgumentType]


def test_generation_continues_past_the_context_length_to_max_new_tokens(model: Decoder):
    assert len(text(model)) == 40


@pytest.mark.parametrize("prompt", ["a", "abcde", "abcdeab", "abcdeabcdeabcde"])
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 0.8, "top_k": 3, "top_p": 0.9}])
def test_text_is_the_same_without_a_cache(model: Decoder, prompt: str, settings: dict[str, float]):
    """The context is at most 7 tokens; when it is full, the newest 7 // 4 = 1 tokens are kept."""
    window, expected, rng = TOKENIZER.encode(prompt)[-7:], "", random.Random(1)
    for _ in range(40):
        if len(window) > 7:
            window = window[-1:]
        with torch.no_grad():
            logits = model(torch.tensor([window]))[:, -1].numpy()
        window.append(int(sample(logits, np.array([rng.random()]), **settings)[0]))  # pyright: ignore[reportArgumentType]
        expected += TOKENIZER.decode(window[-1:])
    assert text(model, prompt, **settings) == expected


def test_the_same_seed_repeats_the_text_and_other_seeds_change_it(model: Decoder):
    assert text(model) == text(model)
    assert len({text(model, seed=seed) for seed in range(5)}) == 5
    assert text(model, seed=None) != text(model, seed=None)


def test_a_shorter_text_is_a_prefix_of_a_longer_one(model: Decoder):
    assert text(model).startswith(text(model, max_new_tokens=13))


def test_a_sequence_does_not_depend_on_the_others_in_a_batch(model: Decoder):
    decoder, prompt, seeds = NumpyDecoder.from_model(model), np.array([1, 2]), (5, 6, 7)
    together = np.stack(
        list(generate_ids(decoder, prompt, [random.Random(seed) for seed in seeds], SamplingParams(20)))
    ).T
    for row, seed in zip(together, seeds, strict=True):
        alone = list(generate_ids(decoder, prompt, [random.Random(seed)], SamplingParams(20)))
        assert row.tolist() == np.concatenate(alone).tolist()


def test_a_batch_gives_the_same_texts_as_separate_calls_and_each_ends_at_its_stop_string(model: Decoder):
    settings, together = SamplingParams(40, stop=("ab", "e")), defaultdict(str)
    for index, chunk in generate_batch(NumpyDecoder.from_model(model), TOKENIZER, "ab", settings, range(6)):
        together[index] += chunk
    alone = {seed: text(model, seed=seed, stop=("ab", "e")) for seed in range(6)}
    assert together == {seed: continuation for seed, continuation in alone.items() if continuation}
    assert len({len(continuation) for continuation in together.values()}) > 1


def test_generation_changes_neither_the_global_rng_nor_the_training_mode(model: Decoder):
    state = torch.get_rng_state()
    model.train()
    first, second = text(model), text(model)
    assert model.training
    model.eval()
    assert first == second == text(model)  # without dropout in train mode too
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_prompt_starts_a_new_line(model: Decoder):
    assert text(model, "") == text(model, "\n")


def test_an_empty_prompt_works_without_a_newline_in_the_alphabet(model: Decoder):
    assert list(generate(model, CharTokenizer("xyzabc"), "", 5, seed=1)) == list(
        generate(model, CharTokenizer("xyzabc"), "x", 5, seed=1)
    )


def test_only_the_end_of_a_prompt_longer_than_the_context_matters(model: Decoder):
    assert text(model, "a" * 100_000 + "bcdeabc") == text(model, "bcdeabc")


def test_the_text_ends_before_a_stop_string(model: Decoder):
    whole = text(model)
    stop = whole[10:13]
    assert text(model, stop=[stop, "never"]) == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": float("inf")}, "temperature must be 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**63}, "seed must be at least 0"),
        ({"stop": [""]}, "stop strings must not be empty"),
        ({"prompt": "axb"}, "'x' .* at position 1"),
    ],
)
def test_invalid_settings_are_rejected_before_iteration(model: Decoder, settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        generate(model, TOKENIZER, **{"prompt": "a", **settings})  # pyright: ignore[reportArgumentType]
