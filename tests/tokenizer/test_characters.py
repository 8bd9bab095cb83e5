import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.tokenizer import CharTokenizer


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


@pytest.mark.parametrize(
    ("unknown", "alphabet", "nearest"),
    [("é", "abe", "e"), ("E", "abe", "e"), ("’", "'a", "'"), ("—", "-a", "-"), ("“", "'!a", "'"), ("d", "axe", "e")],
)
def test_the_nearest_character_is_the_most_similar_one(unknown: str, alphabet: str, nearest: str):
    assert CharTokenizer(alphabet).nearest(unknown) == nearest


def test_unknown_characters_are_removed_or_replaced():
    tokenizer = CharTokenizer("acef")
    assert tokenizer.handle_unknown("cafétéra!") == "cafa"
    assert tokenizer.handle_unknown("café", replace=True) == "cafe"
    assert tokenizer.handle_unknown("cafe") == "cafe"


@pytest.mark.parametrize("alphabet", ["", "aba"])
def test_an_alphabet_that_is_empty_or_repeats_a_character_raises(alphabet: str):
    with pytest.raises(ValueError, match="alphabet"):
        CharTokenizer(alphabet)
