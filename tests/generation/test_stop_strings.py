from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from minillm.generation.stop_strings import StopStringFilter


def shown_of(pieces: list[str], stop: list[str]) -> Iterator[str]:
    """What is shown, as it is shown."""
    text = StopStringFilter(stop)
    for piece in pieces:
        yield text.add(piece)
    yield text.finish()


@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=8),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_stop_before_cuts_the_joined_text_at_the_first_stop_string(pieces: list[str], stop: list[str]):
    whole = "".join(pieces)
    shown = "".join(shown_of(pieces, stop))
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
    assert list(shown_of(["xa", "c"], ["ab"])) == ["x", "ac", ""]
    assert list(shown_of(["xa", "b", "c"], ["ab"])) == ["x", "", "", ""]
    assert list(shown_of(["xa"], ["ab"])) == ["x", "a"]
