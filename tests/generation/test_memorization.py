import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data.corpus import load_text
from minillm.generation.memorization import MIN_MATCH_BYTES, VerbatimIndex


def longest_verbatim_match(sample: str, text: bytes) -> str:
    return VerbatimIndex(text).longest_match(sample)


def brute_force(sample: str, text: str) -> int:
    """Return the length of the longest match by trying all substrings."""
    substrings = (sample[i:j] for i in range(len(sample)) for j in range(i, len(sample) + 1))
    return max((len(substring) for substring in substrings if substring in text), default=0)


@given(st.text("ab", max_size=40), st.text("ab", max_size=400), st.data())
def test_no_match_is_longer(sample: str, text: str, data: st.DataObject):
    begin = data.draw(st.integers(0, len(text)))
    sample += text[begin : begin + data.draw(st.integers(0, 40))] + "b"
    found, expected = longest_verbatim_match(sample, text.encode()), brute_force(sample, text)
    assert len(found) == (expected if expected >= MIN_MATCH_BYTES else 0)
    assert found in text
    assert found in sample


@pytest.mark.parametrize("offset", range(8))
def test_a_match_is_found_at_any_offset(offset: int):
    text = "x" * offset + "I know not häw." + "y" * 20
    assert longest_verbatim_match("zz I know not häw. zz", text.encode()) == "I know not häw."


def test_matches_below_the_minimum_length_are_ignored():
    assert longest_verbatim_match("I know not h", b"zzz I know not how zzz") == ""
    assert longest_verbatim_match("", b"") == ""


def test_incomplete_characters_at_the_ends_of_a_match_are_removed():
    assert (
        longest_verbatim_match("ö the very same words ö", "ä the very same words ü".encode()) == " the very same words "
    )


def test_a_sample_of_shakespeare_is_found_in_milliseconds():
    text = load_text("tinyshakespeare")
    start = random.Random(0).randrange(len(text) - 1000)
    begin = time.process_time()
    assert longest_verbatim_match(text[start : start + 1000], text.encode()) == text[start : start + 1000]
    assert time.process_time() - begin < 1


def test_a_repetitive_text_takes_linear_time():
    begin = time.process_time()
    assert longest_verbatim_match("=" * 1000, b"=" * 300_000) == "=" * 1000
    assert time.process_time() - begin < 5
