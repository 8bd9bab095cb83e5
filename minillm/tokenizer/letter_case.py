"""Groups of tokens that differ only in upper and lower case."""

from minillm.tokenizer import Tokenizer


def case_groups(tokenizer: Tokenizer) -> list[int]:
    """Return the index of each token's group; tokens that are equal in lower case have the same one.

    Args:
        tokenizer: Tokenizer of characters or byte pairs.
    """
    lower = [tokenizer.id_to_token(token).lower() for token in range(tokenizer.vocab_size)]
    indices = {text: index for index, text in enumerate(dict.fromkeys(lower))}
    return [indices[text] for text in lower]
