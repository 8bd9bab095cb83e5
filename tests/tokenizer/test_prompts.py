import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.tokenizer import BytePairTokenizer, CharTokenizer
from minillm.tokenizer.prompts import NormalForm, handle_unknown, normalize_prompt, similar

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"  # an emoji of five code points
FLAG, THUMB = "\U0001f1eb\U0001f1f7", "\U0001f44d\U0001f3fd"


@pytest.mark.parametrize(
    ("unknown", "alphabet", "expected"),
    [
        ("é", "abe", "e"),
        ("e\u0301", "abe", "e"),
        ("E", "abe", "e"),
        ("É", "abe", "e"),
        ("\u2019", "'a", "'"),
        ("\u2014", "-a", "-"),
        ("\u201c", "'!a", "'"),
        ("\u201c", '"!a', '"'),
        ("\u2026", ".a", "..."),
        ("ß", "as", "ss"),
        ("ø", "ao", "o"),
        ("\ufb01", "fia", "fi"),
        ("\t", " a", " "),
        ("\xa0", " a", " "),
        ("d", "axe", None),
        ("é", "abc", None),
        (FAMILY, "abc", None),
    ],
)
def test_similar_is_a_relative_in_the_vocabulary_or_nothing(unknown: str, alphabet: str, expected: str | None):
    assert similar(unknown, CharTokenizer(alphabet)) == expected


def test_line_breaks_of_windows_are_newlines():
    assert normalize_prompt("a\r\nb\rc\n", CharTokenizer("abc\n")) == "a\nb\nc\n"


def test_a_prompt_gets_the_normal_form_of_the_training_text():
    composed, decomposed = "caf\xe9", "cafe\u0301"
    forms: dict[NormalForm, str] = {"NFC": composed, "NFD": decomposed}
    for form, expected in forms.items():
        tokenizer = CharTokenizer("acef\u0301\xe9", normal_form=form)
        assert [normalize_prompt(text, tokenizer) for text in (composed, decomposed)] == [expected, expected]
    assert normalize_prompt(decomposed, CharTokenizer("caf\xe9")) == composed
    assert normalize_prompt(composed, CharTokenizer("acef\u0301")) == decomposed
    bytes_only = BytePairTokenizer([], normal_form="NFD")
    assert normalize_prompt(composed, bytes_only) == decomposed
    assert normalize_prompt(composed, BytePairTokenizer([])) == composed


def test_without_a_normal_form_only_unknown_characters_are_converted():
    tokenizer = CharTokenizer("ae\u0301\xe9\xf1")
    assert normalize_prompt("e\u0301\xe9", tokenizer) == "e\u0301\xe9"
    assert normalize_prompt("n\u0303a", tokenizer) == "\xf1a"


def test_what_is_unknown_is_removed_or_replaced_as_a_reader_counts():
    tokenizer = CharTokenizer("acef!")
    assert handle_unknown("cafétéra!", tokenizer) == ("cafa!", {"é": "", "t": "", "r": ""})
    assert handle_unknown("café", tokenizer, replace=True) == ("cafe", {"é": "e"})
    assert handle_unknown("cafe", tokenizer, replace=True) == ("cafe", {})
    text = f"a{FAMILY}{FLAG}{FLAG}{THUMB}e\u0301\u0323c"
    assert handle_unknown(text, tokenizer, replace=True)[0] == "aec"
    assert handle_unknown(text, tokenizer)[1].keys() == {FAMILY, FLAG, THUMB, "e\u0301\u0323"}
    assert handle_unknown("a\ud800", BytePairTokenizer([]), replace=True) == ("a", {"\ud800": ""})


@given(st.text(), st.text(min_size=1), st.sampled_from([None, "NFC", "NFD"]), st.booleans())
def test_handled_text_can_be_encoded(text: str, alphabet: str, form: None, replace: bool):
    tokenizer = CharTokenizer("".join(sorted(set(alphabet))), normal_form=form)
    known, replaced = handle_unknown(text, tokenizer, replace)
    assert tokenizer.decode(tokenizer.encode(known)) == known
    assert all(not tokenizer.unknown_characters(replacement) for replacement in replaced.values())
    assert handle_unknown(known, tokenizer, replace)[0] == normalize_prompt(known, tokenizer)
