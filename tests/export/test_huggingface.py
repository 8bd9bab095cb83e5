import itertools
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

import minillm as package
from minillm.generation.generate import encode_prompt
from minillm.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer
from minillm.tokenizer.byte_pairs import END_OF_TEXT
from minillm.tokenizer.prompts import normalize_prompt
from tests.export.models import ALPHABET, CONTEXT_LENGTH, save_checkpoint

logging.set_verbosity_error()

VALUES: dict[str, list[Any]] = {
    "position": ["learned", "rotary"],
    "norm": ["layer", "rms"],
    "activation": ["relu", "squared_relu", "swiglu"],
    "qk": [{}, {"query_key_norm": True}, {"query_key_norm": True, "query_key_scale": "channel"}],
    "token_shift": [False, True],
}


def combinations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for values in itertools.product(*VALUES.values()):
        parts = dict(zip(VALUES, values, strict=True))
        found.append({**parts.pop("qk"), **parts})
    return found


def missing_part(parts: dict[str, Any]) -> str | None:
    """The part that neither GPT-2 nor Llama nor Qwen3 has, by their documentation."""
    if parts["token_shift"]:
        return "token_shift true"
    if parts["position"] == "learned":
        if parts["norm"] == "rms":
            return "norm rms"
        if parts.get("query_key_norm"):
            return "query_key_norm true"
        return "activation swiglu" if parts["activation"] == "swiglu" else None
    if parts["activation"] != "swiglu":
        return f"activation {parts['activation']}"
    return "query_key_scale head" if parts.get("query_key_norm") and "query_key_scale" not in parts else None


@pytest.mark.parametrize("parts", combinations(), ids=lambda parts: "-".join(str(value) for value in parts.values()))
def test_every_combination_of_parts_gives_the_logits_of_ours_or_is_refused(parts: dict[str, Any], tmp_path: Path):
    model, folder = save_checkpoint(tmp_path / "model.ckpt", **parts), tmp_path / "hf"
    if part := missing_part(parts):
        with pytest.raises(ValueError, match=f"format hf has no model with .*{part}: pass --format onnx"):
            package.export(tmp_path / "model.ckpt", "hf", folder)
        assert not folder.exists()
        return
    package.export(tmp_path / "model.ckpt", "hf", folder)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    peer, info = loaded
    assert not any(info.values())
    ids = torch.randint(model.config.vocab_size, (3, CONTEXT_LENGTH))
    torch.testing.assert_close(peer.eval()(ids).logits, model(ids), atol=1e-4, rtol=0)


TEXT = "It's 3 o'clock, and all is well: the cat can't see 2024 bees.\n\nO, wherefore art thou?  Zoë, ½ ²\n"
TOKENIZERS: dict[str, Tokenizer] = {
    "characters": CharTokenizer(ALPHABET),
    "composed characters of documents": CharTokenizer(ALPHABET, end_of_text_id=3, normal_form="NFC"),
    "byte pairs": BytePairTokenizer.from_text(TEXT * 3, 300),
    "byte pairs of documents": BytePairTokenizer(BytePairTokenizer.from_text(TEXT, 265).merges, (END_OF_TEXT,), True),
    "decomposed byte pairs": BytePairTokenizer(BytePairTokenizer.from_text(TEXT, 265).merges, (), False, "NFD"),
}


@pytest.fixture(scope="module", params=TOKENIZERS.values(), ids=list(TOKENIZERS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """One of our tokenizers, and that of an exported folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_checkpoint(folder / "model.ckpt", request.param)
    package.export(folder / "model.ckpt", "hf", folder / "hf")
    return request.param, AutoTokenizer.from_pretrained(folder / "hf")


def normalized(text: str, tokenizer: Tokenizer) -> str:
    """The text with line breaks and Unicode form of the training text; unknown characters stay."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize(tokenizer.normal_form, text) if tokenizer.normal_form else text


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KNOWN_TEXT = st.text(st.sampled_from([*ALPHABET, "\r"]), max_size=40)
SOME_TEXT = st.lists(
    st.one_of(st.sampled_from([*TEXT.split(" "), " ", "\r\n", END_OF_TEXT, "'s", "\x1c", "\x85", "ͅ", "Ⅷ"]), ANY_TEXT)
).map("".join)


@given(text=st.one_of(ANY_TEXT, KNOWN_TEXT, SOME_TEXT))
def test_token_ids_of_any_text_are_ours(pair: tuple[Tokenizer, Any], text: str):
    ours, theirs = pair
    text = normalized(text, ours)
    try:
        expected = ours.encode(text)
    except ValueError:
        with pytest.raises(Exception, match="UNK"):
            theirs(text)
        return
    assert theirs(text, add_special_tokens=False).input_ids == expected
    assert theirs(text).input_ids == ours.start_of_text + expected
    assert theirs.decode(expected) == ours.decode(expected)


def test_prompts_are_read_as_by_predict(pair: tuple[Tokenizer, Any]):
    ours, theirs = pair
    for prompt in ("abc\r\nde", "an é", "a\rb"):
        assert theirs(prompt).input_ids == encode_prompt(ours, prompt)
        assert normalize_prompt(prompt, ours) == normalized(prompt, ours)


def test_text_never_becomes_a_special_token(pair: tuple[Tokenizer, Any]):
    ours, theirs = pair
    assert isinstance(theirs, PreTrainedTokenizerFast)
    assert theirs.eos_token_id == (ours.end_of_text or [None])[0]
    for token in ours.end_of_text:
        assert theirs.convert_ids_to_tokens(token) == END_OF_TEXT
        if isinstance(ours, BytePairTokenizer):
            assert token not in theirs(f"a {END_OF_TEXT}", add_special_tokens=False).input_ids


def test_greedy_text_of_transformers_is_that_of_ours(tmp_path: Path):
    model = save_checkpoint(tmp_path / "model.ckpt", position="rotary", norm="layer", activation="swiglu")
    package.export(tmp_path / "model.ckpt", "hf", tmp_path / "hf")
    peer: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = tokenizer("a b", return_tensors="pt").input_ids
    count = CONTEXT_LENGTH - ids.shape[1]
    generated = peer.generate(ids, max_new_tokens=count, do_sample=False)[0, ids.shape[1] :]
    ours = package.generate(model, CharTokenizer(ALPHABET), "a b", max_new_tokens=count, temperature=0)
    assert tokenizer.decode(generated) == "".join(ours)


def test_generation_ends_by_default_at_the_context_length(tmp_path: Path):
    save_checkpoint(tmp_path / "model.ckpt")
    package.export(tmp_path / "model.ckpt", "hf", tmp_path / "hf")
    peer: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert peer.generate(torch.tensor([[1, 2, 3]])).shape == (1, CONTEXT_LENGTH)
    assert (peer.generation_config.do_sample, peer.generation_config.temperature) == (True, 0.8)
