import pickle
import time
from collections import Counter
from itertools import pairwise

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from minillm.data.corpus import load_text
from minillm.tokenizer import BytePairTokenizer, tokenizer_from_state
from minillm.tokenizer.byte_pairs import (
    END_OF_TEXT,
    MAX_WORD_CHARACTERS,
    WORD_PATTERN,
    last_boundary,
    learn_merges,
    pre_tokenize,
)

TIKTOKENS_PATTERN = (  # ours, as Rust's regular expressions say it
    r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{Nl}\p{No}]{1,64}| ?\p{Nd}{1,3}"
    r"| ?[^\s\p{L}\p{N}]{1,64}[\r\n]{0,64}|\s{1,64}(?!\S)|\s"
)
LETTERS = st.text("aábcж日 \n'’:,_-0123⅔😀é\u0301", max_size=80)


@pytest.fixture(scope="module")
def shakespeare() -> str:
    return load_text("tinyshakespeare")


@pytest.fixture(scope="module")
def tokenizer(shakespeare: str) -> BytePairTokenizer:
    return BytePairTokenizer.from_text(shakespeare, 1024)


@pytest.fixture(scope="module")
def theirs(tokenizer: BytePairTokenizer) -> tiktoken.Encoding:
    ranks = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size - 1)}
    special = {END_OF_TEXT: tokenizer.vocab_size - 1}
    return tiktoken.Encoding("ours", pat_str=TIKTOKENS_PATTERN, mergeable_ranks=ranks, special_tokens=special)


def test_the_worked_example_of_sennrich_haddow_and_birch():
    words = Counter({"low": 5, "lowest": 2, "newer": 6, "wider": 3})
    tokenizer = BytePairTokenizer(learn_merges(words, 3))  # they have "er", "lo" and "low" too, and marks at the end
    assert [tokenizer.token_bytes(token) for token in (256, 257, 258)] == [b"er", b"lo", b"low"]
    assert [tokenizer.decode([token]) for token in tokenizer.encode("lower")] == ["low", "er"]


def test_the_worked_example_of_gage():
    text = "aaabdaaabac"  # Gage 1994, as everyone tells it: Z = aa, Y = ab, X = ZY
    tokenizer = BytePairTokenizer(learn_merges(Counter([text]), 3))
    assert [tokenizer.token_bytes(token) for token in (256, 257, 258)] == [b"aa", b"ab", b"aaab"]
    assert tokenizer.encode(text) == [258, ord("d"), 258, ord("a"), ord("c")]
    assert learn_merges(Counter([text]), 100) == tokenizer.merges  # then nothing stands together twice


@given(st.text("abc", min_size=1, max_size=60), st.integers(1, 12))
def test_merges_are_those_of_counting_everything_anew_every_time(text: str, most: int):
    tokens, expected = list(text.encode()), []
    while len(expected) < most:
        counts = Counter(pairwise(tokens))
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merged, index = [], 0
        while index < len(tokens):
            found = tuple(tokens[index : index + 2]) == best
            merged.append(256 + len(expected) if found else tokens[index])
            index += 1 + found
        expected.append(best)
        tokens = merged
    assert learn_merges(Counter([text]), most) == expected


def test_tiktoken_makes_the_same_tokens_of_shakespeare(
    shakespeare: str, tokenizer: BytePairTokenizer, theirs: tiktoken.Encoding
):
    assert tokenizer.encode(shakespeare) == theirs.encode_ordinary(shakespeare)


@given(LETTERS)
def test_tiktoken_makes_the_same_tokens_of_any_text(tokenizer: BytePairTokenizer, theirs: tiktoken.Encoding, text: str):
    assert tokenizer.encode(text) == theirs.encode_ordinary(text)


@given(st.text())
def test_any_text_survives_the_round_trip(tokenizer: BytePairTokenizer, text: str):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream()
    assert "".join(map(stream, ids)) == text


@given(st.text())
def test_no_character_is_lost_where_words_are_cut(text: str):
    assert "".join(pre_tokenize(text)) == text
    assert all(len(word) <= 2 * MAX_WORD_CHARACTERS + 1 for word in pre_tokenize(text))


@given(LETTERS, LETTERS)
def test_a_text_cut_at_a_boundary_has_the_tokens_of_the_whole(tokenizer: BytePairTokenizer, head: str, tail: str):
    text = f"{head} x, y\nz{tail}"
    cut = last_boundary(text)
    assert 0 < cut < len(text)
    assert tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == tokenizer.encode(text)


def test_a_token_counts_the_characters_that_begin_in_it(tokenizer: BytePairTokenizer):
    ids = tokenizer.encode("Über 日本 😀, the king")
    assert sum(map(tokenizer.num_chars, ids)) == len("Über 日本 😀, the king")


def test_half_a_character_is_shown_when_the_other_half_has_come():
    stream = BytePairTokenizer([]).stream()
    assert [stream(byte) for byte in "é!".encode()] == ["", "é", "!"]


def test_the_name_of_a_special_token_in_a_text_is_text(tokenizer: BytePairTokenizer):
    ids = tokenizer.encode(f"the end{END_OF_TEXT}")
    assert tokenizer.decode(ids) == f"the end{END_OF_TEXT}"
    assert not set(ids) & set(tokenizer.end_of_text)
    assert tokenizer.end_of_text == [1023]
    assert tokenizer.decode([1023]) == ""


def test_what_is_saved_makes_the_same_tokenizer_again(tokenizer: BytePairTokenizer):
    for again in (tokenizer_from_state(tokenizer.state), pickle.loads(pickle.dumps(tokenizer))):
        assert again.encode("Now is the winter") == tokenizer.encode("Now is the winter")
        assert again.state == tokenizer.state


def test_a_megabyte_takes_less_than_a_second_to_encode_and_a_thousand_merges_seconds_to_learn(shakespeare: str):
    begin = time.process_time()
    tokenizer = BytePairTokenizer.from_text(shakespeare, 1024)
    learned = time.process_time()
    tokenizer.encode(shakespeare)
    assert learned - begin < 10
    assert time.process_time() - learned < len(shakespeare) / 1e6


def test_no_text_takes_more_than_time_in_proportion_to_its_length():
    tokenizer = BytePairTokenizer.from_text("ab" * 5000, 262)
    begin = time.process_time()
    assert tokenizer.decode(tokenizer.encode("ab" * 500_000)) == "ab" * 500_000
    assert time.process_time() - begin < 10
    assert WORD_PATTERN.fullmatch(" " + "a" * MAX_WORD_CHARACTERS)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([(0, 256)], "token 256 is made of 0 and 256, which come later"),
        ([(-1, 0)], "token 256 is made of -1 and 0"),
        ([(1, 2), (1, 2)], "merged only once"),
        ([(65, 65), *((256 + n, 256 + n) for n in range(20))], "longer than 516 bytes"),
    ],
)
def test_merges_that_make_no_sense_are_refused(merges: list[tuple[int, int]], message: str):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer(merges)


@pytest.mark.parametrize(
    ("vocab_size", "message"),
    [
        (256, "vocab_size must be at least 257, a token for each byte, got 256"),
        (300, "more than this text can give: after 259 tokens no two of them stand together twice"),
    ],
)
def test_sizes_that_a_text_cannot_give_are_refused(vocab_size: int, message: str):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer.from_text("low lower", vocab_size)


def test_half_a_surrogate_pair_is_named():
    with pytest.raises(ValueError, match="half a character"):
        BytePairTokenizer([]).encode("a\ud83d")
