import math
from collections import Counter, defaultdict
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def test_ngrams_follow_the_formula_of_witten_and_bell():
    from baselines import ngram_bits  # pyright: ignore[reportMissingImports]

    known, text = "to be, or not to be: that is the question", "the nest is not that"
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for end in range(len(known)):
        for length in range(3):
            if end >= length:
                counts[known[end - length : end]][known[end]] += 1

    def probability(character: str, context: str) -> float:
        shorter = probability(character, context[1:]) if context else 1 / len(set(known))
        seen = counts[context]
        return (seen[character] + len(seen) * shorter) / (seen.total() + len(seen)) if seen else shorter

    for n, bits in enumerate(ngram_bits(known, text, 3), start=1):
        whole = known + text
        probabilities = [probability(whole[i], whole[i - n + 1 : i]) for i in range(len(known) + 1, len(whole))]
        assert bits == pytest.approx(-sum(map(math.log2, probabilities)) / len(probabilities))


def test_repeated_text_takes_few_bits_and_uncompressed_text_8_bits_per_character():
    from baselines import COMPRESSORS, compressed_bits  # pyright: ignore[reportMissingImports]

    known = "".join(f"{n * n} squared is {n**4}; " for n in range(300))
    for name, compress in COMPRESSORS.items():
        if name != "bz2":  # its block sorting gains little from an exact repetition
            assert compressed_bits(compress, known, known[1000:3000]) < 0.7
    assert compressed_bits(lambda data: data, known, known) == 8
