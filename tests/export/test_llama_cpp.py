"""Exported files in llama.cpp itself: logits, token ids and greedy text are those of ours."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import minillm as package
from minillm.model import Decoder
from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer
from tests.export.models import ALPHABET, CONTEXT_LENGTH, save_checkpoint

pytestmark = pytest.mark.llama_cpp

CHARACTERS = CharTokenizer(ALPHABET + "\\\t😀", end_of_text_id=3)
BYTE_PAIRS = BytePairTokenizer.from_text("to be, or not to be: that is the question.\n" * 9, 280)
SWIGLU: dict[str, Any] = {"position": "rotary", "activation": "swiglu"}
QWEN3 = {**SWIGLU, "query_key_norm": True, "query_key_scale": "channel"}
PARTS = [SWIGLU, {**SWIGLU, "norm": "rms"}, QWEN3, {**QWEN3, "norm": "rms"}]


def exported(folder: Path, tokenizer: Tokenizer = CHARACTERS, **parts: Any) -> tuple[Decoder, Any]:
    """Export a model; return it, and the model of llama.cpp with a float32 KV cache."""
    from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

    model = save_checkpoint(folder / "model.ckpt", tokenizer, **parts)
    package.export(folder / "model.ckpt", "gguf", folder / "gguf")
    float32: dict[str, Any] = {"type_k": 0, "type_v": 0}
    path = str(folder / "gguf" / "model.gguf")
    return model, Llama(path, n_ctx=CONTEXT_LENGTH, n_batch=CONTEXT_LENGTH, logits_all=True, verbose=False, **float32)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of characters in llama.cpp."""
    return exported(tmp_path_factory.mktemp("characters"), **SWIGLU)[1]


@pytest.fixture(scope="module")
def their_byte_pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of byte pairs in llama.cpp."""
    return exported(tmp_path_factory.mktemp("byte_pairs"), BYTE_PAIRS, **SWIGLU)[1]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(map(str, parts.values())))
def test_logits_and_greedy_text_are_those_of_ours(parts: dict[str, Any], tmp_path: Path):
    model, theirs = exported(tmp_path, **parts)
    ids = torch.randint(model.config.vocab_size, (CONTEXT_LENGTH,)).tolist()
    theirs.eval(ids)
    np.testing.assert_allclose(theirs.scores, model(torch.tensor([ids]))[0].detach(), atol=1e-4, rtol=0)
    ours = package.generate(model, CHARACTERS, "an é", CONTEXT_LENGTH - 5, temperature=0)
    written = theirs("an é", max_tokens=CONTEXT_LENGTH - 5, temperature=0)["choices"][0]["text"]
    assert written == "".join(ours)


@given(text=st.text(CHARACTERS.alphabet))
def test_token_ids_of_characters_are_ours(theirs: Any, text: str):
    assert theirs.tokenize(text.encode(), add_bos=False, special=False) == CHARACTERS.encode(text)


def test_unknown_characters_are_invalid_ids(theirs: Any):
    assert theirs.tokenize("aж".encode(), add_bos=False, special=False) == [CHARACTERS.encode("a")[0], -1, -1]


@given(
    words=st.lists(st.sampled_from(["to", "be", " ", "question", "That", ",", ".", "'s", "42", "naïve", "😀", "\n"]))
)
def test_token_ids_of_byte_pairs_are_ours_where_gpt_2_splits_as_we_do(their_byte_pairs: Any, words: list[str]):
    text = "".join(words)
    assume(not re.search(r"[^\w\s]\n|\d{4}", text))  # line breaks after punctuation, long numbers
    assert their_byte_pairs.tokenize(text.encode(), add_bos=False, special=False) == BYTE_PAIRS.encode(text)
