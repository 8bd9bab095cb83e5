from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from minillm.generation.stop_strings import StopStringFilter


def emitted(chunks: list[str], stop: list[str]) -> Iterator[str]:
    """Yield the text emitted after each chunk and at the end."""
    stop_filter = StopStringFilter(stop)
    for chunk in chunks:
        yield stop_filter.add(chunk)
    yield stop_filter.finish()


@given(
    chunks=st.lists(st.text("ab", max_size=4), max_size=8),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_the_joined_text_ends_before_the_first_stop_string(chunks: list[str], stop: list[str]):
    whole = "".join(chunks)
    text = "".join(emitted(chunks, stop))
    # the stream ends at the first complete stop string, though a longer one may have started earlier
    ends = [whole.find(string) + len(string) for string in stop if string in whole]
    if not ends:
        assert text == whole
    else:
        consumed = ""
        for chunk in chunks:
            consumed += chunk
            if any(string in consumed for string in stop):
                break
        assert text == consumed[: min(consumed.find(string) for string in stop if string in consumed)]


def test_the_possible_start_of_a_stop_string_is_held_back():
    assert list(emitted(["xa", "c"], ["ab"])) == ["x", "ac", ""]
    assert list(emitted(["xa", "b", "c"], ["ab"])) == ["x", "", "", ""]
    assert list(emitted(["xa"], ["ab"])) == ["x", "a"]
