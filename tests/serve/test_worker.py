import asyncio
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from minillm.checkpoint.find import find_checkpoint
from minillm.generation.generate import generate_batch
from minillm.generation.load import Device, load_numpy
from minillm.generation.sampling_params import SamplingParams
from minillm.serve import models as models_module
from minillm.serve import worker
from minillm.serve.engine import PendingText
from minillm.serve.limits import Limits
from minillm.serve.models import Models
from minillm.serve.worker import Inbox, TextDelta, TextRequest, Worker
from tests.serve.client import BODY, ask, begin, texts, until
from tests.serve.conftest import serving


def request(number: int, prompt: list[int], seed: int, num_tokens: int, group: int = 0) -> TextRequest:
    return TextRequest(number, group, prompt, SamplingParams(num_tokens, 1.0, None, None, seed, ()), None, False)


def test_texts_start_at_once_and_arrive_in_parts(in_smoke_run: Path):
    decoder, tokenizer, _ = load_numpy(find_checkpoint("best"))
    inbox: Inbox = SimpleQueue()
    for number in range(5):  # more than there is room for
        inbox.put(request(number, tokenizer.encode("ROMEO:"), seed=number, num_tokens=90))
    pieces: dict[int, list[TextDelta]] = {number: [] for number in range(5)}
    for news in Worker(decoder, tokenizer, max_batch_size=3).run(inbox):
        for number, piece in news.items():
            pieces[number].append(piece)
        if all(made and made[-1].finish_reason for made in pieces.values()):
            inbox.put(None)
    for number, made in pieces.items():
        alone = generate_batch(decoder, tokenizer, "ROMEO:", SamplingParams(90, 1.0, None, None, number, ()), [number])
        assert "".join(piece.text for piece in made) == "".join(text for _, text in alone)
        assert made[0].num_tokens == 1
        assert sum(piece.num_tokens for piece in made) == 90
        assert [piece.finish_reason for piece in made] == [None] * (len(made) - 1) + ["length"]


@pytest.mark.filterwarnings("ignore:.*use of fork")
def test_a_server_with_pytorch_generates_the_texts_of_numpy(in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch):
    fork = multiprocessing.get_context("fork")  # with the imported PyTorch
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: fork)
    body = {"prompt": ["ROMEO:", "A"], "max_tokens": 90, "seed": 1, "n": 2}
    answers: list[Any] = []
    for device in (None, Device("cpu", "32-true")):
        with serving(device=device, num_workers=1) as address:
            answers.append(json.loads(ask(address, body=body)[2])["choices"])
    assert answers[0] == answers[1]
    assert [len(choice["text"]) for choice in answers[0]] == [90] * 4


def test_cancelled_texts_are_not_generated(in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "DELTA_INTERVAL_SECONDS", 60.0)  # only starts and ends are reported, at any speed
    decoder, tokenizer, _ = load_numpy(find_checkpoint("best"))
    inbox: Inbox = SimpleQueue()
    for number in range(3):
        inbox.put(request(number, [1], seed=number, num_tokens=10**6))
    for made, news in enumerate(Worker(decoder, tokenizer, max_batch_size=2).run(inbox)):
        if made == 0:
            assert news.keys() == {0, 1}
            inbox.put(0)
        elif made == 1:
            assert news.keys() == {2}  # it has taken the place
            for number in (1, 2):
                inbox.put(number)
            inbox.put(request(3, [1], seed=3, num_tokens=1))
        else:
            assert news == {3: TextDelta(news[3].text, 1, [], "length")}
            inbox.put(None)


def test_only_the_texts_of_a_worker_that_dies_are_lost_and_it_alone_is_replaced(in_smoke_run: Path):
    async def check() -> None:
        models = Models(find_checkpoint("best"), Limits(num_workers=2))
        _, engine = await models.get()
        dying, staying = engine.workers
        params = SamplingParams(4000, 1.0, None, None, 0, ())
        pending = [PendingText([1], params, None, False, asyncio.Event()) for _ in range(20)]
        engine.submit(pending)
        os.kill(dying.process.pid or 0, signal.SIGKILL)
        while not any(text.is_lost for text in pending):
            await asyncio.sleep(0.01)
        assert [text.is_lost for text in pending].count(True) == 10
        assert engine.workers[0] is staying
        while len(engine.workers) < 2:
            await asyncio.sleep(0.01)
        assert await models.get() == ("smoke/version_0/best", engine)
        assert engine.num_texts == 10
        again = PendingText([1], replace(params, max_new_tokens=3), None, False, asyncio.Event())
        engine.submit([again])
        while again.num_tokens < 3:
            assert not again.is_lost
            await asyncio.sleep(0.01)
        processes = [worker.process for worker in engine.workers]
        await models.closed()
        assert not any(process.is_alive() for process in processes)

    asyncio.run(check())


def test_a_request_whose_worker_dies_ends_with_an_error(serve_here: Callable[..., Any]):
    others = multiprocessing.active_children()
    with serve_here(num_workers=1) as address:
        (child,) = set(multiprocessing.active_children()) - set(others)
        with begin(address, {**BODY, "max_tokens": 4096, "n": 16, "stream": True}) as connection:
            answer = connection.makefile("rb")
            until(lambda: answer.readline().startswith(b"data: "))
            os.kill(child.pid or 0, signal.SIGKILL)
            last = answer.read().decode().strip().rpartition("data: ")[2]
            assert "a worker process ended" in json.loads(last.split("\n")[0])["error"]["message"]
        until(lambda: texts(address) == 0)
        until(lambda: ask(address)[0] == 200)


def test_a_short_request_does_not_wait_for_long_ones(in_smoke_run: Path):
    decoder, tokenizer, _ = load_numpy(find_checkpoint("best"))
    inbox: Inbox = SimpleQueue()
    worker = Worker(decoder, tokenizer, max_batch_size=8)
    for number in range(40):  # two requests, of 20 texts each
        inbox.put(request(number, [1], seed=number, num_tokens=10**6, group=number % 2))
    steps = worker.run(inbox)
    for _ in range(20):
        next(steps)
    inbox.put(request(100, [1], seed=0, num_tokens=5, group=2))
    deltas = [next(steps) for _ in range(12)]
    assert sum(delta[100].num_tokens for delta in deltas if 100 in delta) == 5


def test_many_requests_of_one_text_take_turns_and_keep_their_texts(in_smoke_run: Path):
    decoder, tokenizer, _ = load_numpy(find_checkpoint("best"))
    inbox: Inbox = SimpleQueue()
    for number in range(6):
        inbox.put(request(number, tokenizer.encode("ROMEO:"), seed=number, num_tokens=300, group=number))
    made, first_at = dict[int, str](), dict[int, int]()
    total = 0
    for deltas in Worker(decoder, tokenizer, max_batch_size=2).run(inbox):
        for number, delta in deltas.items():
            first_at.setdefault(number, total)
            total += delta.num_tokens
            made[number] = made.get(number, "") + delta.text
        if total == 6 * 300:
            inbox.put(None)
    assert max(first_at.values()) < 6 * 150  # the last one did not wait until the first ones were complete
    for number, text in made.items():
        params = SamplingParams(300, 1.0, None, None, number, ())
        alone = generate_batch(decoder, tokenizer, "ROMEO:", params, [number])
        assert text == "".join(text for _, text in alone)


def test_a_rewritten_checkpoint_replaces_the_loaded_one(in_smoke_run: Path):
    async def check() -> None:
        models = Models(find_checkpoint("best"), Limits(num_workers=1))
        name, engine = await models.get()
        assert (await models.get(name))[1] is engine
        os.utime(find_checkpoint("best"))
        _, newer = await models.get(name)
        assert newer is not engine
        assert not engine.is_alive
        await models.closed()
        assert not newer.is_alive

    asyncio.run(check())


def test_the_least_recently_used_model_is_unloaded(in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models_module, "MAX_LOADED", 1)

    async def check() -> None:
        models = Models(find_checkpoint("best"), Limits(num_workers=1))
        _, first = await models.get("smoke/version_0/best")
        _, second = await models.get("smoke/version_0/last")
        assert (first.is_alive, second.is_alive) == (False, True)
        _, third = await models.get("smoke/version_0/best")
        assert (second.is_alive, third.is_alive) == (False, True)
        await models.closed()

    asyncio.run(check())
