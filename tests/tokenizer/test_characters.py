from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.tokenizer import BytePairTokenizer, CharTokenizer, tokenizer_from_state


def test_ids_are_indices_into_the_sorted_alphabet():
    tokenizer = CharTokenizer.from_text("cabbage")
    assert tokenizer.alphabet == "abceg"
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("cab") == [2, 0, 1]
    assert tokenizer.decode([2, 0, 1]) == "cab"


@given(st.text(min_size=1))
def test_any_text_survives_the_round_trip(text: str):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_unknown_character_raises_with_its_position_and_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 3 .* nearest is 'e'"):
        CharTokenizer("acef").encode("cafétéria")


def test_an_unknown_character_without_a_similar_one_is_named_alone():
    with pytest.raises(ValueError, match=r"'z' \(U\+007A\) .* vocabulary of 4 characters$"):
        CharTokenizer("acef").encode("z")


def test_the_end_of_text_token_is_not_a_character():
    tokenizer = CharTokenizer("abc").with_documents()
    assert (tokenizer.vocab_size, tokenizer.end_of_text, tokenizer.start_of_text) == (4, [3], [3])
    assert tokenizer.decode([0, 3, 2]) == "ac"
    assert tokenizer.id_to_token(3) == "<|endoftext|>"
    assert [tokenizer.num_chars(token) for token in range(4)] == [1, 1, 1, 0]
    assert tokenizer.with_documents().state == tokenizer.state


def test_an_extended_tokenizer_keeps_its_ids():
    tokenizer = CharTokenizer("ac").with_documents().extended("abcd")
    assert tokenizer.encode("acbd") == [0, 1, 3, 4]
    assert tokenizer.end_of_text == [2]
    assert tokenizer_from_state(tokenizer.state).state == tokenizer.state


def test_a_tokenizer_without_documents_has_the_state_of_older_versions():
    assert CharTokenizer("abc").state == {"alphabet": "abc"}
    assert (CharTokenizer("abc").end_of_text, CharTokenizer("abc").start_of_text) == ([], [])


@pytest.mark.parametrize(
    "state",
    [
        {"alphabet": "abc", "end_of_text_id": 4},
        {"alphabet": "abc", "end_of_text_id": -1},
        {"alphabet": "abc", "end_of_text_id": True},
        {"alphabet": "abc", "normal_form": "NFKC"},
        {"alphabet": "abc", "merges": []},
        {"end_of_text_id": 1},
        {"merges": [], "special_tokens": [], "separates_documents": True},
    ],
)
def test_a_wrong_state_raises(state: dict[str, Any]):
    with pytest.raises(ValueError, match=r"end_of_text_id|normal_form|neither|special token"):
        tokenizer_from_state(state)


@pytest.mark.parametrize("alphabet", ["", "aba"])
def test_an_alphabet_that_is_empty_or_repeats_a_character_raises(alphabet: str):
    with pytest.raises(ValueError, match="alphabet"):
        CharTokenizer(alphabet)


def test_the_prompt_if_none_is_given_is_the_beginning_of_a_document_or_of_a_line():
    assert CharTokenizer("ab\n").default_prompt == "\n"
    assert CharTokenizer("ab").default_prompt == "a"
    assert CharTokenizer("ab\n").with_documents().default_prompt == ""
    assert BytePairTokenizer([]).default_prompt == "\n"
    assert BytePairTokenizer([], separates_documents=True).default_prompt == ""
