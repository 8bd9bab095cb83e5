import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data.corpus import load_text
from minillm.generation.memorization import SHORTEST, longest_verbatim_match


def plainly(sample: str, text: str) -> int:
    """The length of the longest run, by trying all."""
    runs = (sample[i:j] for i in range(len(sample)) for j in range(i, len(sample) + 1))
    return max((len(run) for run in runs if run in text), default=0)


@given(st.text("ab", max_size=40), st.text("ab", max_size=400), st.data())
def test_no_run_in_the_text_is_longer(sample: str, text: str, data: st.DataObject):
    begin = data.draw(st.integers(0, len(text)))
    sample += text[begin : begin + data.draw(st.integers(0, 40))] + "b"
    found, expected = longest_verbatim_match(sample, text.encode()), plainly(sample, text)
    assert len(found) == (expected if expected >= SHORTEST else 0)
    assert found in text
    assert found in sample


@pytest.mark.parametrize("offset", range(8))
def test_a_run_is_found_wherever_it_lies(offset: int):
    text = "x" * offset + "I know not häw." + "y" * 20
    assert longest_verbatim_match("zz I know not häw. zz", text.encode()) == "I know not häw."


def test_shorter_runs_are_not_worth_mentioning():
    assert longest_verbatim_match("I know not h", b"zzz I know not how zzz") == ""
    assert longest_verbatim_match("", b"") == ""


def test_the_parts_of_characters_at_either_end_are_left_out():
    assert (
        longest_verbatim_match("ö the very same words ö", "ä the very same words ü".encode()) == " the very same words "
    )


def test_a_sample_of_shakespeare_is_found_in_milliseconds():
    text = load_text("tinyshakespeare")
    place = random.Random(0).randrange(len(text) - 1000)
    begin = time.process_time()
    assert longest_verbatim_match(text[place : place + 1000], text.encode()) == text[place : place + 1000]
    assert time.process_time() - begin < 1


def test_a_text_that_repeats_itself_takes_time_in_proportion_to_its_length():
    begin = time.process_time()
    assert longest_verbatim_match("=" * 1000, b"=" * 300_000) == "=" * 1000
    assert time.process_time() - begin < 5
