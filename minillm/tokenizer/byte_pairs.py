"""Byte-level byte-pair encoding (BPE): train the merges, encode and decode."""

import codecs
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any, ClassVar, Self

from minillm.tokenizer.prompts import NormalForm, check_normal_form

Pair = tuple[int, int]

NUM_BYTES = 256  # the vocabulary starts with all bytes, so that any text can be encoded
MAX_WORD_CHARACTERS = 64  # bounds the length of a pre-token, so that encoding takes linear time on any text
_REPEATED = f"{{1,{MAX_WORD_CHARACTERS}}}"
WORD_PATTERN = re.compile(  # pre-tokenization: pairs are merged within a match, never across matches
    rf"""'(?:[sdmt]|ll|ve|re)                 # contractions: the ends of "it's" and "they'll"
      |\ ?[^\W\d_]{_REPEATED}                 # letters, with the space before them
      |\ ?\d{{1,3}}                           # up to three digits
      |\ ?(?:[^\w\s]|_){_REPEATED}[\r\n]{{0,{MAX_WORD_CHARACTERS}}}  # punctuation, with the line breaks after it
      |\s{_REPEATED}(?!\S)                    # whitespace, without the space that belongs to the next word
      |\s""",
    re.VERBOSE,
)
BOUNDARY_PATTERN = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")  # positions where a pre-token ends in any context
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
END_OF_TEXT = "<|endoftext|>"
MAX_TOKEN_BYTES = 4 * (2 * MAX_WORD_CHARACTERS + 1)  # the longest pre-token, at 4 bytes per character


class BytePairTokenizer:
    """Byte-level BPE tokenizer: a token is a byte or a merged pair of tokens.

    With the merges (104, 105) and (256, 33), "hi!" is [257]. Ids below 256 are bytes, followed by the merges in order
    and the special tokens, which `encode` never returns and which decode to the empty string.

    Args:
        merges: Pairs of token ids to merge, in order of priority.
        special_tokens: Names of the special tokens, each different.
        separates_documents: Whether every document of the training text ends with `<|endoftext|>`, so that a prompt
            follows this token.
        normal_form: Unicode normalization form of the training text, `NFC` or `NFD`; None if it does not have one.

    Raises:
        ValueError: A merge uses an id that does not exist yet, a token is too long, or a merge or a name is repeated.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; on bytes as in
    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """

    STATE_TYPES: ClassVar = {"merges": list, "special_tokens": list}
    OPTIONAL_STATE_TYPES: ClassVar = {"separates_documents": bool, "normal_form": str}

    def __init__(
        self,
        merges: Sequence[Sequence[int]],
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        separates_documents: bool = False,
        normal_form: NormalForm | None = None,
    ) -> None:
        self.merges = [(first, second) for first, second in merges]
        self.special_tokens = list(special_tokens)
        self.separates_documents = separates_documents
        self.normal_form: NormalForm | None = normal_form
        check_normal_form(normal_form)
        if separates_documents and END_OF_TEXT not in special_tokens:
            raise ValueError(f"documents need the special token {END_OF_TEXT}, got {special_tokens}")
        if len(set(special_tokens)) < len(special_tokens):
            raise ValueError(f"special tokens must have different names, got {', '.join(special_tokens)}")
        self._bytes = [bytes([value]) for value in range(NUM_BYTES)]
        for first, second in self.merges:
            token = len(self._bytes)
            if not (0 <= first < token and 0 <= second < token):
                raise ValueError(f"token {token} must merge two ids from 0 to {token - 1}, got {first} and {second}")
            self._bytes.append(self._bytes[first] + self._bytes[second])
            if len(self._bytes[-1]) > MAX_TOKEN_BYTES:
                raise ValueError(f"token {token} is longer than {MAX_TOKEN_BYTES} bytes")
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        if len(self._ranks) < len(self.merges):
            raise ValueError("merges must not repeat a pair")
        self._encode_word = lru_cache(maxsize=2**16)(self._apply_merges)

    def __reduce__(self) -> tuple[Any, ...]:
        return BytePairTokenizer, (self.merges, self.special_tokens, self.separates_documents, self.normal_form)

    @classmethod
    def from_word_counts(
        cls, word_counts: Counter[str], vocab_size: int, special_tokens: Sequence[str] = (END_OF_TEXT,)
    ) -> Self:
        """Train a tokenizer: merge the most frequent pair of tokens, repeatedly.

        Args:
            word_counts: Number of occurrences of each pre-token (see `pre_tokenize`).
            vocab_size: Total number of tokens, including bytes and special tokens.
            special_tokens: Names of the special tokens.

        Raises:
            ValueError: `vocab_size` is too small for the bytes and special tokens, or so large that no pair occurs
                twice any more.
        """
        min_size = NUM_BYTES + len(special_tokens)
        if vocab_size < min_size:
            raise ValueError(
                f"vocab_size must be at least {min_size}, one per byte and special token, got {vocab_size}"
            )
        merges = learn_merges(word_counts, vocab_size - min_size)
        max_size = min_size + len(merges)
        if max_size < vocab_size:
            raise ValueError(
                f"vocab_size {vocab_size} is too large for this text: after {max_size} tokens no pair occurs twice; "
                f"pass at most {max_size}"
            )
        return cls(merges, special_tokens)

    @classmethod
    def from_text(cls, text: str, vocab_size: int, special_tokens: Sequence[str] = (END_OF_TEXT,)) -> Self:
        """Train a tokenizer on a text; see `from_word_counts`."""
        return cls.from_word_counts(Counter(pre_tokenize(text)), vocab_size, special_tokens)

    @property
    def state(self) -> dict[str, Any]:
        """Constructor arguments as plain values, for saving."""
        state = {"merges": [list(pair) for pair in self.merges], "special_tokens": self.special_tokens}
        optional = {"separates_documents": self.separates_documents, "normal_form": self.normal_form}
        return {**state, **{name: value for name, value in optional.items() if value}}

    @property
    def end_of_text(self) -> list[int]:
        """Token id that ends a document, as a list; empty if there is no such token."""
        return [self.special_token_id(END_OF_TEXT)] if END_OF_TEXT in self.special_tokens else []

    @property
    def default_prompt(self) -> str:
        """Prompt if none is given: empty with documents, else a newline."""
        return "" if self.start_of_text else "\n"

    @property
    def start_of_text(self) -> list[int]:
        """Token ids before a document: the end of the one before it; empty if there are no documents."""
        return self.end_of_text if self.separates_documents else []

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
        return len(self._bytes) + len(self.special_tokens)

    def encode(self, text: str) -> list[int]:
        """Convert text to token ids.

        Raises:
            ValueError: The text contains a lone surrogate, which UTF-8 cannot encode.
        """
        try:
            return [token for word in pre_tokenize(text) for token in self._encode_word(word)]
        except UnicodeEncodeError as error:
            raise ValueError(f"{text[error.start]!r} in {text[:40]!r} is a lone surrogate, not a character") from error

    def decode(self, ids: Iterable[int]) -> str:
        """Convert token ids to text; bytes that are not valid UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def incremental_decoder(self) -> Callable[[int], str]:
        """Return a function that decodes a sequence one token per call, in whole characters."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token: decoder.decode(self.token_bytes(token))

    def extended(self, characters: Iterable[str]) -> Self:
        """Return this tokenizer: its bytes cover every character."""
        return self

    def with_documents(self) -> Self:
        """Return a tokenizer with an end-of-text token, the last one if it is new; existing ids do not change."""
        new = [] if END_OF_TEXT in self.special_tokens else [END_OF_TEXT]
        return type(self)(self.merges, [*self.special_tokens, *new], True, self.normal_form)

    def id_to_token(self, token: int) -> str:
        """Return a token in readable form: its text, its bytes in hexadecimal if not valid UTF-8, or its name."""
        if token >= len(self._bytes):
            return self.special_tokens[token - len(self._bytes)]
        try:
            return self._bytes[token].decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self._bytes[token])

    def num_chars(self, token: int) -> int:
        """Return the number of characters whose first byte is in a token."""
        return sum(byte & 0xC0 != 0x80 for byte in self.token_bytes(token))

    def unknown_characters(self, text: str) -> set[str]:
        """Return the lone surrogates of a text, which UTF-8 cannot encode."""
        return set(LONE_SURROGATE.findall(text))

    def token_bytes(self, token: int) -> bytes:
        """Return a token's UTF-8 bytes, which may be part of a character; a special token has none."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def special_token_id(self, name: str) -> int:
        """Return the id of a special token."""
        return len(self._bytes) + self.special_tokens.index(name)

    def _apply_merges(self, word: str) -> list[int]:
        """Encode a pre-token: merge its pair of highest priority until there is no pair to merge."""
        tokens = list(word.encode())
        while len(tokens) > 1:
            pair = min(pairwise(tokens), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            tokens = merge(tokens, pair, NUM_BYTES + self._ranks[pair])
        return tokens


def last_boundary(text: str) -> int:
    """Return where to cut a text without splitting a pre-token: at its last boundary.

    The last 4096 characters are searched; without a boundary in them, it is the end of the text.
    """
    start = max(len(text) - 4096, 0)
    return max((match.start() for match in BOUNDARY_PATTERN.finditer(text, start)), default=len(text)) or len(text)


def pre_tokenize(text: str) -> list[str]:
    """Split a text into pre-tokens: words, numbers, punctuation and whitespace."""
    return WORD_PATTERN.findall(text)


def learn_merges(word_counts: Counter[str], max_merges: int) -> list[Pair]:
    """Learn merges: repeatedly merge the most frequent pair of tokens, breaking ties by the lowest ids.

    Pair counts are updated incrementally: a merge visits only the words that contain the pair. A heap finds the most
    frequent pair; an entry whose count is outdated is pushed back with the current one.

    Args:
        word_counts: Number of occurrences of each pre-token.
        max_merges: Maximum number of merges.

    Returns:
        The merges in order, fewer than `max_merges` if no pair occurs twice any more.
    """
    word_tokens = [list(word.encode()) for word in word_counts]
    counts = list(word_counts.values())
    pair_counts: Counter[Pair] = Counter()
    words_with: dict[Pair, set[int]] = defaultdict(set)  # indices of the words that have a pair, or had it before

    def update_pair_counts(index: int, sign: int) -> set[Pair]:
        pairs = list(pairwise(word_tokens[index]))
        for pair in pairs:
            pair_counts[pair] += sign * counts[index]
            if sign > 0:
                words_with[pair].add(index)
        return set(pairs)

    for index in range(len(word_tokens)):
        update_pair_counts(index, +1)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < max_merges:
        negative_count, pair = heappop(heap)
        if -negative_count != pair_counts[pair]:
            if pair_counts[pair] > 0:
                heappush(heap, (-pair_counts[pair], pair))
            continue
        if -negative_count < 2:
            break
        token, new_pairs = NUM_BYTES + len(merges), set[Pair]()
        merges.append(pair)
        for index in words_with.pop(pair):
            old_pairs = update_pair_counts(index, -1)
            word_tokens[index] = merge(word_tokens[index], pair, token)
            new_pairs |= update_pair_counts(index, +1) - old_pairs
        for new_pair in new_pairs:
            heappush(heap, (-pair_counts[new_pair], new_pair))
    return merges


def merge(tokens: list[int], pair: Pair, token: int) -> list[int]:
    """Replace each occurrence of a pair by `token`, from left to right.

    In [1, 2, 3, 1, 2], merging (1, 2) into 4 gives [4, 3, 4].
    """
    merged: list[int] = []
    for current in tokens:
        if merged and (merged[-1], current) == pair:
            merged[-1] = token
        else:
            merged.append(current)
    return merged
