"""Byte-pair encoding: tokens are bytes, and pairs of tokens that stand together often."""

import codecs
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any, ClassVar, Self

Pair = tuple[int, int]

NUM_BYTES = 256  # the first tokens are all bytes, so that there is no text that cannot be written
MAX_WORD_CHARACTERS = 64  # so that encoding takes time in proportion to the length of the text, whatever it contains
_MOST = f"{{1,{MAX_WORD_CHARACTERS}}}"
WORD_PATTERN = re.compile(  # pre-tokenization: pairs are merged within these parts of a text, never across them
    rf"""'(?:[sdmt]|ll|ve|re)                 # contractions: the ends of "it's" and "they'll"
      |\ ?[^\W\d_]{_MOST}                     # letters, with the space before them
      |\ ?\d{{1,3}}                           # up to three digits
      |\ ?(?:[^\w\s]|_){_MOST}[\r\n]{{0,{MAX_WORD_CHARACTERS}}}  # punctuation, with the line breaks after it
      |\s{_MOST}(?!\S)                        # whitespace, without the space that belongs to the next word
      |\s""",
    re.VERBOSE,
)
BOUNDARY_PATTERN = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")  # where a word ends, whatever stands before and after
END_OF_TEXT = "<|endoftext|>"
MAX_TOKEN_BYTES = 4 * (2 * MAX_WORD_CHARACTERS + 1)  # bytes


class BytePairTokenizer:
    """A token is a byte, or a pair of tokens: with the merges (104, 105) and (256, 33), "hi!" is [257].

    Ids below 256 are bytes, the next ones the merges in their order, and the last ones the special tokens, which stand
    for no text and come out of none.

    Args:
        merges: Pairs of ids that make a token together, the most important first.
        special_tokens: Names of tokens with a meaning of their own, each once.

    Raises:
        ValueError: A pair is of tokens that do not exist yet, a token is too long, or a name stands twice.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; on bytes as in
    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """

    STATE_TYPES: ClassVar = {"merges": list, "special_tokens": list}
    default_prompt: ClassVar = "\n"  # of a text without a prompt

    def __init__(self, merges: Sequence[Sequence[int]], special_tokens: Sequence[str] = (END_OF_TEXT,)) -> None:
        self.merges = [(first, second) for first, second in merges]
        self.special_tokens = list(special_tokens)
        if len(set(special_tokens)) < len(special_tokens):
            raise ValueError(f"special tokens have different names, got {', '.join(special_tokens)}")
        self._bytes = [bytes([value]) for value in range(NUM_BYTES)]
        for first, second in self.merges:
            if not (0 <= first < len(self._bytes) and 0 <= second < len(self._bytes)):
                raise ValueError(f"token {len(self._bytes)} is made of {first} and {second}, which come later")
            self._bytes.append(self._bytes[first] + self._bytes[second])
            if len(self._bytes[-1]) > MAX_TOKEN_BYTES:
                raise ValueError(f"token {len(self._bytes) - 1} is longer than {MAX_TOKEN_BYTES} bytes")
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        if len(self._ranks) < len(self.merges):
            raise ValueError("a pair is merged only once")
        self._encode_word = lru_cache(maxsize=2**16)(self._merged)

    def __reduce__(self) -> tuple[Any, ...]:
        return BytePairTokenizer, (self.merges, self.special_tokens)

    @classmethod
    def from_words(cls, words: Counter[str], vocab_size: int, special_tokens: Sequence[str] = (END_OF_TEXT,)) -> Self:
        """Learn merges: again and again the pair that stands together most often becomes a token.

        Args:
            words: How often which part of a text stands there, as `pre_tokenize` takes it apart.
            vocab_size: Tokens in all.
            special_tokens: As for the class.

        Raises:
            ValueError: There are to be fewer tokens than bytes, or more than pairs that stand together twice.
        """
        least = NUM_BYTES + len(special_tokens)
        if vocab_size < least:
            raise ValueError(f"vocab_size must be at least {least}, a token for each byte, got {vocab_size}")
        merges = learn_merges(words, vocab_size - least)
        if len(merges) < vocab_size - least:
            raise ValueError(
                f"vocab_size {vocab_size} is more than this text can give: after {least + len(merges)} tokens no two "
                f"of them stand together twice; give at most {least + len(merges)}"
            )
        return cls(merges, special_tokens)

    @classmethod
    def from_text(cls, text: str, vocab_size: int, special_tokens: Sequence[str] = (END_OF_TEXT,)) -> Self:
        """As `from_words`, of a whole text."""
        return cls.from_words(Counter(pre_tokenize(text)), vocab_size, special_tokens)

    @property
    def state(self) -> dict[str, Any]:
        """The arguments that make this tokenizer again, as plain values."""
        return {"merges": [list(pair) for pair in self.merges], "special_tokens": self.special_tokens}

    @property
    def end_of_text(self) -> list[int]:
        """The token between two documents, if there is one."""
        return [self.special_id(END_OF_TEXT)] if END_OF_TEXT in self.special_tokens else []

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return len(self._bytes) + len(self.special_tokens)

    def encode(self, text: str) -> list[int]:
        """Turn text into token ids.

        Raises:
            ValueError: It has half a surrogate pair, which is no character.
        """
        try:
            return [token for word in pre_tokenize(text) for token in self._encode_word(word)]
        except UnicodeEncodeError as error:
            raise ValueError(f"{text[error.start]!r} in {text[:40]!r} is half a character") from error

    def decode(self, ids: Iterable[int]) -> str:
        """Turn token ids back into text; bytes that make no character become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def stream(self) -> Callable[[int], str]:
        """To be called with token after token: the text that each adds, whole characters only."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token: decoder.decode(self.token_bytes(token))

    def extended(self, characters: Iterable[str]) -> Self:
        """Itself: it can write every character already."""
        return self

    def name(self, token: int) -> str:
        """What a token stands for, to be read: text, or its bytes if they make none, or a special token's name."""
        if token >= len(self._bytes):
            return self.special_tokens[token - len(self._bytes)]
        try:
            return self._bytes[token].decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self._bytes[token])

    def num_chars(self, token: int) -> int:
        """How many characters begin in a token."""
        return sum(byte & 0xC0 != 0x80 for byte in self.token_bytes(token))

    def handle_unknown(self, text: str, replace: bool = False) -> str:
        """The text without halves of surrogate pairs, which are no characters, or with ? in their place."""
        return text.encode("utf-8", errors="replace" if replace else "ignore").decode("utf-8")

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for, in UTF-8: perhaps a part of a character only; nothing for special tokens."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def special_id(self, name: str) -> int:
        """The id of a special token."""
        return len(self._bytes) + self.special_tokens.index(name)

    def _merged(self, word: str) -> list[int]:
        """The tokens of a word: of the pairs in it, always the one that was learned first becomes a token."""
        tokens = list(word.encode())
        while len(tokens) > 1:
            pair = min(pairwise(tokens), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            tokens = merge(tokens, pair, NUM_BYTES + self._ranks[pair])
        return tokens


def last_boundary(text: str) -> int:
    """Where a long text can be cut without cutting a word; its end, if there is no such place near it."""
    near = max(len(text) - 4096, 0)
    return max((found.start() for found in BOUNDARY_PATTERN.finditer(text, near)), default=len(text)) or len(text)


def pre_tokenize(text: str) -> list[str]:
    """Take a text apart into words, numbers, signs and blanks."""
    return WORD_PATTERN.findall(text)


def learn_merges(words: Counter[str], most: int) -> list[Pair]:
    """The pairs to merge, in their order: the one that is there most often, and of equals the one of lowest ids.

    The counts are kept up to date: after a merge only the words that had the pair are looked at. A heap knows the most
    frequent pair; an entry whose count has fallen since goes back with the one that is true.

    Args:
        words: How often which word stands in the text.
        most: How many to find.

    Returns:
        Fewer than `most`, where no pair stands in the text twice any more.
    """
    spelled = [list(word.encode()) for word in words]
    weights = list(words.values())
    counts: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)  # in which words a pair is, or was

    def add(index: int, sign: int) -> set[Pair]:
        pairs = list(pairwise(spelled[index]))
        for pair in pairs:
            counts[pair] += sign * weights[index]
            if sign > 0:
                places[pair].add(index)
        return set(pairs)

    for index in range(len(spelled)):
        add(index, +1)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < most:
        count, pair = heappop(heap)
        if -count != counts[pair]:
            if counts[pair] > 0:
                heappush(heap, (-counts[pair], pair))
            continue
        if -count < 2:
            break
        token, grown = NUM_BYTES + len(merges), set[Pair]()
        merges.append(pair)
        for index in places.pop(pair):
            before = add(index, -1)
            spelled[index] = merge(spelled[index], pair, token)
            grown |= add(index, +1) - before
        for new in grown:
            heappush(heap, (-counts[new], new))
    return merges


def merge(tokens: list[int], pair: Pair, token: int) -> list[int]:
    """The tokens with `token` for every such pair, from the left."""
    result: list[int] = []
    for newest in tokens:
        if result and (result[-1], newest) == pair:
            result[-1] = token
        else:
            result.append(newest)
    return result
