"""Our tokenizers as a `tokenizer.json` of Hugging Face's tokenizers library."""

from __future__ import annotations

import re
from collections.abc import Callable

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as HuggingFaceTokenizer

from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer
from minillm.tokenizer.byte_pairs import END_OF_TEXT, MAX_WORD_CHARACTERS

MAX_CODE_POINT = 0x10FFFF


def tokenizer_json(tokenizer: Tokenizer) -> str:
    """Return the content of `tokenizer.json`.

    Line breaks and the Unicode form are normalized as for prompts. A character that is not in the vocabulary is an
    error. Text never becomes the end-of-text token; it precedes a prompt if the model was trained on documents.
    """
    build = _byte_pairs if isinstance(tokenizer, BytePairTokenizer) else _characters
    converted = build(tokenizer)  # pyright: ignore[reportArgumentType]
    steps: list[normalizers.Normalizer] = [normalizers.Replace("\r\n", "\n"), normalizers.Replace("\r", "\n")]
    if tokenizer.normal_form is not None:
        steps.append({"NFC": normalizers.NFC, "NFD": normalizers.NFD}[tokenizer.normal_form]())
    converted.normalizer = normalizers.Sequence(steps)
    if tokenizer.start_of_text:
        template = {"single": f"{END_OF_TEXT} $A", "special_tokens": [(END_OF_TEXT, tokenizer.start_of_text[0])]}
        converted.post_processor = processors.TemplateProcessing(**template)
    return converted.to_str(pretty=True)


def _characters(tokenizer: CharTokenizer) -> HuggingFaceTokenizer:
    """Return a tokenizer of words that have one character each."""
    vocabulary = {tokenizer.id_to_token(token): token for token in range(tokenizer.vocab_size)}
    converted = HuggingFaceTokenizer(models.WordLevel(vocabulary))
    converted.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    converted.decoder = decoders.Fuse()
    converted.add_special_tokens([AddedToken(END_OF_TEXT, special=True)] if tokenizer.end_of_text else [])
    return converted


def _byte_pairs(tokenizer: BytePairTokenizer) -> HuggingFaceTokenizer:
    """Return a byte-level BPE tokenizer."""
    characters = byte_characters()
    num_tokens = tokenizer.vocab_size - len(tokenizer.special_tokens)
    names = ["".join(characters[byte] for byte in tokenizer.token_bytes(token)) for token in range(num_tokens)]
    merges = [(names[first], names[second]) for first, second in tokenizer.merges]
    vocabulary = {name: token for token, name in enumerate([*names, *tokenizer.special_tokens])}
    converted = HuggingFaceTokenizer(models.BPE(vocabulary, merges))
    words = pre_tokenizers.Split(Regex(word_pattern()), "isolated")
    converted.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    converted.decoder = decoders.ByteLevel()
    converted.add_special_tokens([AddedToken(name, special=True) for name in tokenizer.special_tokens])
    return converted


def byte_characters() -> list[str]:
    """Return a printable character for every byte, as in GPT-2: itself, or one from U+0100 on.

    Source: Radford et al. 2019, encoder.py of https://github.com/openai/gpt-2.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(0x100)]


def word_pattern() -> str:
    """Return the pattern of pre-tokens, with the character classes of Python written out: other engines differ."""
    letter = _character_class(lambda text: re.findall(r"[^\W\d_]", text))
    digit = _character_class(lambda text: re.findall(r"\d", text))
    space = _character_class(lambda text: re.findall(r"\s", text))
    other = _character_class(lambda text: re.findall(r"[^\w\s]|_", text))
    repeated = f"{{1,{MAX_WORD_CHARACTERS}}}"
    return "|".join(
        [
            "'(?:[sdmt]|ll|ve|re)",
            f" ?[{letter}]{repeated}",
            f" ?[{digit}]{{1,3}}",
            rf" ?[{other}]{repeated}[\r\n]{{0,{MAX_WORD_CHARACTERS}}}",
            f"[{space}]{repeated}(?![^{space}])",
            f"[{space}]",
        ]
    )


def _character_class(find: Callable[[str], list[str]]) -> str:
    r"""Return the ranges of the characters that are found, such as `\x{30}-\x{39}`; surrogates are left out."""
    text = "".join(chr(code) for code in range(MAX_CODE_POINT + 1) if not 0xD800 <= code < 0xE000)
    ranges: list[list[int]] = []
    for code in map(ord, find(text)):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges)
