import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minillm.generation.generate import generate, generate_ids, stop_before
from minillm.generation.settings import Settings
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\nabcde")


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(TOKENIZER.vocab_size, context_length=7, embed_dim=8, num_layers=1, num_heads=2, dropout=0.5)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(10)  # an untrained model has no preferences
    return decoder.eval()


def text(model: Decoder, prompt: str = "ab", **settings: object) -> str:
    return "".join(generate(model, TOKENIZER, prompt, **{"max_new_tokens": 40, "seed": 1, **settings}))  # pyright: ignore[reportArgumentType]


def test_it_continues_past_the_context_length_by_as_many_tokens_as_asked(model: Decoder):
    assert len(text(model)) == 40


def test_greedy_text_is_that_of_the_whole_formula_over_the_last_tokens(model: Decoder):
    ids = TOKENIZER.encode("ab")
    for _ in range(20):
        ids.append(int(model(torch.tensor([ids[-7:]]))[0, -1].argmax()))
    assert text(model, temperature=0, max_new_tokens=20) == TOKENIZER.decode(ids[2:])


def test_a_seed_repeats_the_text_and_other_seeds_differ(model: Decoder):
    assert text(model) == text(model)
    assert len({text(model, seed=seed) for seed in range(5)}) == 5
    assert text(model, seed=None) != text(model, seed=None)


def test_a_shorter_text_is_the_beginning_of_a_longer_one(model: Decoder):
    assert text(model).startswith(text(model, max_new_tokens=13))


def test_a_text_does_not_depend_on_its_neighbours_in_a_batch(model: Decoder):
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    prompts = torch.tensor([[1, 2], [3, 4], [5, 0]])
    together = torch.stack(list(generate_ids(model, prompts, generators(5, 6, 7), Settings(20)))).T
    for row, seed in enumerate((5, 6, 7)):
        alone = torch.cat(list(generate_ids(model, prompts[row : row + 1], generators(seed), Settings(20))))
        assert together[row].tolist() == alone.tolist()


def test_generation_leaves_the_global_generator_and_the_models_mode_alone(model: Decoder):
    state = torch.get_rng_state()
    model.train()
    first, second = text(model), text(model)
    assert model.training
    model.eval()
    assert first == second == text(model)  # dropout stayed out
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_prompt_starts_a_new_line(model: Decoder):
    assert text(model, "") == text(model, "\n")


def test_an_empty_prompt_works_without_a_newline_in_the_alphabet(model: Decoder):
    assert list(generate(model, CharTokenizer("xyzabc"), "", 5, seed=1)) == list(
        generate(model, CharTokenizer("xyzabc"), "x", 5, seed=1)
    )


def test_a_prompt_longer_than_the_context_counts_by_its_end(model: Decoder):
    assert text(model, "a" * 100_000 + "bcdeabc") == text(model, "bcdeabc")


def test_the_text_ends_before_a_stop_string(model: Decoder):
    whole = text(model)
    stop = whole[10:13]
    assert text(model, stop=[stop, "never"]) == whole[: whole.index(stop)]


@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=8),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_stop_before_cuts_the_joined_text_at_the_first_stop_string(pieces: list[str], stop: list[str]):
    whole = "".join(pieces)
    shown = ""
    for piece in stop_before(iter(pieces), stop):
        shown += piece
    # pieces end where a stop string is first complete, which may be before another one that began earlier
    ends = [whole.find(string) + len(string) for string in stop if string in whole]
    if not ends:
        assert shown == whole
    else:
        consumed = ""
        for piece in pieces:
            consumed += piece
            if any(string in consumed for string in stop):
                break
        assert shown == consumed[: min(consumed.find(string) for string in stop if string in consumed)]


def test_nothing_that_may_become_a_stop_string_is_shown_early():
    assert list(stop_before(iter(["xa", "c"]), ["ab"])) == ["x", "ac"]
    assert list(stop_before(iter(["xa", "b", "c"]), ["ab"])) == ["x"]
    assert list(stop_before(iter(["xa"]), ["ab"])) == ["x", "a"]


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
        ({"stop": [""]}, "a stop string must hold at least one character"),
        ({"prompt": "axb"}, "'x' .* at position 1"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(model: Decoder, settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        generate(model, TOKENIZER, **{"prompt": "a", **settings})  # pyright: ignore[reportArgumentType]
