import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch
from openai import OpenAI

import minillm as package
from tests.serve.client import ask

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("flags", [{"temperature": 0.0}, {"seed": 7}, {"seed": 8, "temperature": 0.6, "top_p": 0.8}])
def test_the_text_is_that_of_predict(client: OpenAI, in_smoke_run: Path, minillm: Run, flags: dict[str, float]):
    answer = client.completions.create(model="", prompt="ROMEO:", max_tokens=90, **{"temperature": 1.0, **flags})  # pyright: ignore
    given = {"temperature": 1.0, "seed": 0, **flags}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    _, text, _ = minillm("predict", "--prompt", "ROMEO:", "--max_new_tokens", 90, *words)
    assert answer.choices[0].text == text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {  # pyright: ignore
        "prompt_tokens": 6,
        "completion_tokens": 90,
        "total_tokens": 96,
    }


def test_a_stream_is_the_same_text_in_parts(client: OpenAI):
    asked: dict[str, Any] = {"model": "smoke/version_0/best", "prompt": "JULIET:", "max_tokens": 300, "seed": 3, "n": 2}
    whole = client.completions.create(**asked)
    parts = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    texts = ["".join(part.choices[0].text for part in parts[:-1] if part.choices[0].index == n) for n in (0, 1)]
    assert texts == [choice.text for choice in whole.choices]
    assert parts[-1].choices == []
    assert parts[-1].usage == whole.usage
    assert [part.choices[0].finish_reason for part in parts[:-1]].count("length") == 2


def test_texts_of_several_prompts_come_in_their_order(client: OpenAI):
    prompts = ["ROMEO:", "A", ""]
    together = client.completions.create(model="", prompt=prompts, max_tokens=20, seed=1, n=2)
    alone = [client.completions.create(model="", prompt=prompt, max_tokens=20, seed=1, n=2) for prompt in prompts]
    assert [choice.index for choice in together.choices] == list(range(6))
    assert [choice.text for choice in together.choices] == [choice.text for one in alone for choice in one.choices]


def test_token_ids_are_a_prompt_too(client: OpenAI, in_smoke_run: Path):
    _, tokenizer = package.load()
    asked: dict[str, Any] = {"model": "", "max_tokens": 10, "temperature": 0}
    texts = [
        client.completions.create(prompt=prompt, **asked).choices[0].text for prompt in ("ROM", tokenizer.encode("ROM"))
    ]
    assert texts[0] == texts[1]


def test_a_random_seed_is_reported_and_reproduces_the_text(client: OpenAI):
    asked: dict[str, Any] = {"model": "", "prompt": "A", "max_tokens": 40}
    first, other = client.completions.create(**asked), client.completions.create(**asked)
    again = client.completions.create(**asked, seed=first.choices[0].seed)  # pyright: ignore
    assert first.choices[0].text == again.choices[0].text != other.choices[0].text


def test_it_ends_before_a_stop_string(client: OpenAI):
    asked: dict[str, Any] = {"model": "", "prompt": "A", "max_tokens": 60, "seed": 5}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[20:23]
    for given in (stop, [stop, "never"]):
        choice = client.completions.create(**asked, stop=given, logprobs=1).choices[0]
        assert choice.text == whole[: whole.index(stop)]
        assert choice.finish_reason == "stop"
        assert "".join(choice.logprobs.tokens) == choice.text  # pyright: ignore


def test_logprobs_are_those_of_the_model(client: OpenAI, in_smoke_run: Path):
    choice = client.completions.create(model="", prompt="ROM", max_tokens=8, seed=1, logprobs=3, echo=True).choices[0]
    model, tokenizer = package.load()
    ids = tokenizer.encode(choice.text)
    assert len(ids) == 11
    expected = torch.log_softmax(model(torch.tensor([ids]))[0].double(), dim=-1).detach().numpy()
    logprobs = choice.logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (list(choice.text), list(range(11)))
    assert logprobs.token_logprobs[0] is None  # pyright: ignore
    for place in range(1, 11):
        assert logprobs.token_logprobs[place] == pytest.approx(expected[place - 1][ids[place]], abs=1e-4)  # pyright: ignore
        likeliest = [tokenizer.decode([index]) for index in np.argsort(-expected[place - 1])[:3]]
        assert list(logprobs.top_logprobs[place])[:3] == likeliest  # pyright: ignore
        assert set(logprobs.top_logprobs[place]) == {*likeliest, choice.text[place]}  # pyright: ignore


def test_processed_logprobs_are_those_that_the_token_was_drawn_from(client: OpenAI):
    asked: dict[str, Any] = {
        "model": "",
        "prompt": "A",
        "max_tokens": 30,
        "seed": 1,
        "temperature": 0.5,
        "top_p": 1.0,
        "logprobs": 20,
    }
    raw = client.completions.create(**asked).choices[0]
    drawn = client.completions.create(**asked, extra_body={"processed_logprobs": True, "top_k": 4}).choices[0]
    likely = drawn.logprobs.top_logprobs[0]  # pyright: ignore
    four = dict(list(raw.logprobs.top_logprobs[0].items())[:4])  # pyright: ignore
    total = sum(math.exp(value / 0.5) for value in four.values())
    assert likely == pytest.approx({token: math.log(math.exp(value / 0.5) / total) for token, value in four.items()})
    for likely in drawn.logprobs.top_logprobs:  # pyright: ignore
        assert len(likely) == 4
        assert sum(map(math.exp, likely.values())) == pytest.approx(1)


def test_a_text_longer_than_the_context_is_scored_to_its_end(client: OpenAI, in_smoke_run: Path):
    """The smoke model sees 16 tokens; every one but the first 16 is scored after at least 8."""
    text = "Speak, speak. You are all resolved rather to die than to famish?"
    asked: dict[str, Any] = {"model": "", "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 0}
    choice = client.completions.create(**asked).choices[0]
    model, tokenizer = package.load()
    ids = torch.tensor(tokenizer.encode(text))
    expected: list[float | None] = [None]
    for begin in range(0, len(ids) - 1, 8):
        scores = torch.log_softmax(model(ids[None, begin : begin + 16])[0].detach(), dim=-1)
        for place in range(len(expected), min(begin + 17, len(ids))):
            expected.append(float(scores[place - 1 - begin, ids[place]]))
    assert choice.text == text
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(expected[1:], abs=1e-4)  # pyright: ignore
    assert len(expected) == len(text)


def test_unknown_characters_are_an_error_or_skipped_or_replaced(client: OpenAI):
    asked: dict[str, Any] = {"model": "", "prompt": "Café", "max_tokens": 5, "echo": True}
    with pytest.raises(openai.BadRequestError, match=r"'é' \(U\+00E9\) at position 3") as caught:
        client.completions.create(**asked)
    assert (caught.value.param, caught.value.code) == ("prompt", "unknown_character")
    for on_unknown, begins in (("skip", "Caf"), ("replace", "Cafe")):
        text = client.completions.create(**asked, extra_body={"on_unknown": on_unknown}).choices[0].text
        assert len(text) == len(begins) + 5
        assert text.startswith(begins)


def test_models_are_listed_and_shown(client: OpenAI):
    names = [model.id for model in client.models.list()]
    assert set(names) == {"smoke/version_0/best", "smoke/version_0/last"}
    shown = client.models.retrieve("smoke/version_0/last")
    assert (shown.id, shown.context_length, shown.vocab_size) == ("smoke/version_0/last", 16, 65)  # pyright: ignore
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt="A")


def test_the_requests_of_lm_evaluation_harness_are_answered(address: str, in_smoke_run: Path):
    """Requests in the form of its `local-completions` model with its remote tokenizer."""
    info = json.loads(ask(address, "/tokenizer_info", None)[2])
    assert (info["eos_token"], info["bos_token"], info["chat_template"]) == ("\n", "\n", None)
    tokenize = {"prompt": "O Romeo", "add_special_tokens": False}
    ids = json.loads(ask(address, "/tokenize", tokenize)[2])["tokens"]
    _, tokenizer = package.load()
    assert ids == tokenizer.encode("O Romeo")
    assert json.loads(ask(address, "/detokenize", {"tokens": ids})[2]) == {"prompt": "O Romeo"}
    names = json.loads(ask(address, "/tokenize", {**tokenize, "return_token_strs": True})[2])["token_strs"]
    assert names == list("O Romeo")

    request = {"model": "", "prompt": [ids, ids[:3]], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234}
    status, _, content = ask(address, body={**request, "echo": True})
    assert status == 200
    model, _ = package.load()
    for choice, prompt in zip(json.loads(content)["choices"], (ids, ids[:3]), strict=True):
        expected = torch.log_softmax(model(torch.tensor([prompt]))[0].detach(), dim=-1)
        continuation = choice["logprobs"]["token_logprobs"][1:-1]  # without the generated token
        assert continuation == pytest.approx(
            [float(expected[t, prompt[t + 1]]) for t in range(len(prompt) - 1)], abs=1e-4
        )
        for logprob, top in zip(continuation, choice["logprobs"]["top_logprobs"][1:-1], strict=True):
            assert max(top.values()) >= logprob


def test_settings_of_vllm_clients_are_understood(address: str):
    def text(**settings: Any) -> str:
        status, _, content = ask(address, body={"prompt": "A", "max_tokens": 8, "seed": 3, **settings})
        assert status == 200, content
        choice = json.loads(content)["choices"][0]
        return choice["text"] + str(len((choice["logprobs"] or {}).get("top_logprobs", [])))

    plain = text()
    assert text(max_completion_tokens=8, max_tokens=None) == plain
    assert text(top_k=-1) == text(top_k=0) == text(logprobs=False) == plain
    assert text(user="a", ignore_eos=True, skip_special_tokens=False, repetition_penalty=1.0, min_p=0) == plain
    assert text(logprobs=True) == plain[:-1] + "8"
    assert text(seed=-1) != text(seed=-1)
    assert text(max_tokens=8.0, stop=["never"]) == plain
