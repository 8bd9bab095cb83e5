import random
import time
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data.corpus import load_text
from minillm.generation import memorization
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
    with patch.object(memorization, "MAX_PAIRS", data.draw(st.sampled_from([0, memorization.MAX_PAIRS]))):
        found, expected = longest_verbatim_match(sample, text.encode()), brute_force(sample, text)
    assert len(found) == (expected if expected >= MIN_MATCH_BYTES else 0)
    assert found in text
    assert found in sample


@pytest.mark.parametrize("offset", range(8))
def test_a_match_is_found_at_any_offset(offset: int):
    text = "x" * offset + "I know not häw." + "y" * 20
    assert longest_verbatim_match("zz I know not häw. zz", text.encode()) == "I know not häw."


@given(st.text("ab", max_size=60), st.text("abc\n", max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_matches_are_in_the_text_and_leave_no_other_one_between_them(sample: str, text: str, copied: list[int]):
    sample = "".join(sample[n * 15 : n * 15 + 15] + text[start : start + 25] for n, start in enumerate(copied))
    found = VerbatimIndex(text.encode()).matches(sample, 16)
    gaps, end = list[str](), 0
    for match in found:
        assert match.start >= end
        assert sample[match.start :].startswith(match.text)
        assert any(line.startswith(match.text) for line in suffixes_from_line(text, match.line))
        gaps.append(sample[end : match.start])
        end = match.start + len(match.text)
    assert bool(found) == (brute_force(sample, text) >= 16)
    assert all(brute_force(gap, text) < 16 for gap in [*gaps, sample[end:]])
    longest = brute_force(sample, text)
    assert longest == max((len(match.text) for match in found), default=longest)


def suffixes_from_line(text: str, line: int) -> list[str]:
    """Return what begins in a line of a text, from each of its characters on."""
    begin = len("".join(text.splitlines(keepends=True)[: line - 1]))
    end = text.find("\n", begin)
    return [text[place:] for place in range(begin, len(text) if end < 0 else end + 1)]


def test_matches_of_a_sample_have_their_lines():
    text = "one line of the text\nanother line of it\n" + "the third one is much longer\n"
    sample = "It is another line of it, and the third one is much longer than that.ö one line of the text"
    assert VerbatimIndex(text.encode()).matches(sample, 15) == [
        (6, "another line of it", 2),
        (30, "the third one is much longer", 3),
        (71, "one line of the text", 1),
    ]


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
