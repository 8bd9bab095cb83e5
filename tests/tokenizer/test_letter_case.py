from minillm.tokenizer import BytePairTokenizer, CharTokenizer
from minillm.tokenizer.letter_case import case_groups


def test_characters_that_differ_only_in_case_have_the_same_group():
    assert case_groups(CharTokenizer("\n ABab1é")) == [0, 1, 2, 3, 2, 3, 4, 5]
    assert case_groups(CharTokenizer("Éé")) == [0, 0]


def test_byte_pairs_that_differ_only_in_case_have_the_same_group():
    tokenizer = BytePairTokenizer.from_text("The the THE then Then " * 4, vocab_size=266)
    tokens = [tokenizer.id_to_token(token) for token in range(tokenizer.vocab_size)]
    groups = case_groups(tokenizer)
    assert {"The", "the"} & {token.strip() for token in tokens}
    for one, group in zip(tokens, groups, strict=True):
        for other, other_group in zip(tokens, groups, strict=True):
            assert (group == other_group) == (one.lower() == other.lower())
