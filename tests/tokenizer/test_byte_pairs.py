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

TIKTOKEN_PATTERN = (  # WORD_PATTERN in the syntax of Rust's regular expressions
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
def tiktoken_encoding(tokenizer: BytePairTokenizer) -> tiktoken.Encoding:
    ranks = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size - 1)}
    special = {END_OF_TEXT: tokenizer.vocab_size - 1}
    return tiktoken.Encoding("minillm", pat_str=TIKTOKEN_PATTERN, mergeable_ranks=ranks, special_tokens=special)


def test_merges_equal_the_worked_example_of_sennrich_et_al():
    words = Counter({"low": 5, "lowest": 2, "newer": 6, "wider": 3})
    tokenizer = BytePairTokenizer(learn_merges(words, 3))  # as in the paper, but without end-of-word symbols
    assert [tokenizer.token_bytes(token) for token in (256, 257, 258)] == [b"er", b"lo", b"low"]
    assert [tokenizer.decode([token]) for token in tokenizer.encode("lower")] == ["low", "er"]


def test_merges_equal_the_worked_example_of_gage():
    text = "aaabdaaabac"  # Gage 1994, in its common form: Z = aa, Y = ab, X = ZY
    tokenizer = BytePairTokenizer(learn_merges(Counter([text]), 3))
    assert [tokenizer.token_bytes(token) for token in (256, 257, 258)] == [b"aa", b"ab", b"aaab"]
    assert tokenizer.encode(text) == [258, ord("d"), 258, ord("a"), ord("c")]
    assert learn_merges(Counter([text]), 100) == tokenizer.merges  # then no pair occurs twice


@given(st.text("abc", min_size=1, max_size=60), st.integers(1, 12))
def test_merges_equal_those_of_recounting_all_pairs_after_each_merge(text: str, max_merges: int):
    tokens, expected = list(text.encode()), []
    while len(expected) < max_merges:
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
    assert learn_merges(Counter([text]), max_merges) == expected


def test_shakespeare_is_encoded_as_by_tiktoken(
    shakespeare: str, tokenizer: BytePairTokenizer, tiktoken_encoding: tiktoken.Encoding
):
    assert tokenizer.encode(shakespeare) == tiktoken_encoding.encode_ordinary(shakespeare)


@given(LETTERS)
def test_any_text_is_encoded_as_by_tiktoken(
    tokenizer: BytePairTokenizer, tiktoken_encoding: tiktoken.Encoding, text: str
):
    assert tokenizer.encode(text) == tiktoken_encoding.encode_ordinary(text)


@given(st.text())
def test_any_text_survives_the_round_trip(tokenizer: BytePairTokenizer, text: str):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert "".join(map(tokenizer.incremental_decoder(), ids)) == text


@given(st.text())
def test_pre_tokens_are_short_and_add_up_to_the_text(text: str):
    assert "".join(pre_tokenize(text)) == text
    assert all(len(word) <= 2 * MAX_WORD_CHARACTERS + 1 for word in pre_tokenize(text))


@given(LETTERS, LETTERS)
def test_encoding_the_parts_of_a_text_cut_at_a_boundary_equals_encoding_the_whole(
    tokenizer: BytePairTokenizer, head: str, tail: str
):
    text = f"{head} x, y\nz{tail}"
    cut = last_boundary(text)
    assert 0 < cut < len(text)
    assert tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == tokenizer.encode(text)


def test_num_chars_counts_each_character_in_the_token_it_begins_in(tokenizer: BytePairTokenizer):
    ids = tokenizer.encode("Über 日本 😀, the king")
    assert sum(map(tokenizer.num_chars, ids)) == len("Über 日本 😀, the king")


def test_the_incremental_decoder_holds_back_an_incomplete_character():
    decode = BytePairTokenizer([]).incremental_decoder()
    assert [decode(byte) for byte in "é!".encode()] == ["", "é", "!"]


def test_the_name_of_a_special_token_in_a_text_is_encoded_as_text(tokenizer: BytePairTokenizer):
    ids = tokenizer.encode(f"the end{END_OF_TEXT}")
    assert tokenizer.decode(ids) == f"the end{END_OF_TEXT}"
    assert not set(ids) & set(tokenizer.end_of_text)
    assert tokenizer.end_of_text == [1023]
    assert tokenizer.decode([1023]) == ""


def test_a_tokenizer_survives_its_state_and_pickling(tokenizer: BytePairTokenizer):
    for restored in (tokenizer_from_state(tokenizer.state), pickle.loads(pickle.dumps(tokenizer))):
        assert restored.encode("Now is the winter") == tokenizer.encode("Now is the winter")
        assert restored.state == tokenizer.state


def test_encoding_a_megabyte_takes_under_a_second_and_training_1024_tokens_under_ten(shakespeare: str):
    start = time.process_time()
    tokenizer = BytePairTokenizer.from_text(shakespeare, 1024)
    trained = time.process_time()
    tokenizer.encode(shakespeare)
    assert trained - start < 10
    assert time.process_time() - trained < len(shakespeare) / 1e6


def test_encoding_takes_linear_time_on_a_text_without_spaces():
    tokenizer = BytePairTokenizer.from_text("ab" * 5000, 262)
    start = time.process_time()
    assert tokenizer.decode(tokenizer.encode("ab" * 500_000)) == "ab" * 500_000
    assert time.process_time() - start < 10
    assert WORD_PATTERN.fullmatch(" " + "a" * MAX_WORD_CHARACTERS)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([(0, 256)], "token 256 must merge two ids from 0 to 255, got 0 and 256"),
        ([(-1, 0)], "token 256 must merge two ids from 0 to 255, got -1 and 0"),
        ([(1, 2), (1, 2)], "merges must not repeat a pair"),
        ([(65, 65), *((256 + n, 256 + n) for n in range(20))], "longer than 516 bytes"),
    ],
)
def test_invalid_merges_raise(merges: list[tuple[int, int]], message: str):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer(merges)


@pytest.mark.parametrize(
    ("vocab_size", "message"),
    [
        (256, "vocab_size must be at least 257, one per byte and special token, got 256"),
        (300, "too large for this text: after 259 tokens no pair occurs twice; pass at most 259"),
    ],
)
def test_a_vocab_size_that_is_too_small_or_too_large_for_the_text_raises(vocab_size: int, message: str):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer.from_text("low lower", vocab_size)


def test_encoding_a_lone_surrogate_raises():
    with pytest.raises(ValueError, match="lone surrogate"):
        BytePairTokenizer([]).encode("a\ud83d")
