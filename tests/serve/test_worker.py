import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from minillm.checkpoint.find import find_checkpoint
from minillm.generation.generate import generate_batch
from minillm.generation.load import load_numpy
from minillm.generation.sampling_params import SamplingParams
from minillm.serve import models as models_module
from minillm.serve import worker
from minillm.serve.limits import Limits
from minillm.serve.models import Models
from minillm.serve.worker import Piece, Worker
from tests.serve.client import BODY, ask, begin, texts, until


def order(number: int, prompt: list[int], seed: int, num_tokens: int) -> dict[str, Any]:
    settings = {
        "max_new_tokens": num_tokens,
        "temperature": 1.0,
        "top_k": None,
        "top_p": None,
        "seed": seed,
        "stop": [],
    }
    return {"number": number, "prompt": prompt, "settings": settings, "num_logprobs": None, "processed": False}


def test_texts_begin_at_once_and_come_in_pieces_to_their_end(in_smoke_run: Path):
    decoder, tokenizer, _ = load_numpy(find_checkpoint("best"))
    inbox: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    for number in range(5):  # more than there is room for
        inbox.put(order(number, tokenizer.encode("ROMEO:"), seed=number, num_tokens=90))
    pieces: dict[int, list[Piece]] = {number: [] for number in range(5)}
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


def test_what_is_not_wanted_any_more_is_not_made(in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "PAUSE", 60.0)  # only what begins or ends is told, however slow this machine is
    decoder, tokenizer, _ = load_numpy(find_checkpoint("best"))
    inbox: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    for number in range(3):
        inbox.put(order(number, [1], seed=number, num_tokens=10**6))
    for made, news in enumerate(Worker(decoder, tokenizer, max_batch_size=2).run(inbox)):
        if made == 0:
            assert news.keys() == {0, 1}
            inbox.put({"drop": 0})
        elif made == 1:
            assert news.keys() == {2}  # it has taken the place
            for number in (1, 2):
                inbox.put({"drop": number})
            inbox.put(order(3, [1], seed=3, num_tokens=1))
        else:
            assert news == {3: Piece(news[3].text, 1, [], "length")}
            inbox.put(None)


def test_a_worker_that_dies_is_replaced(serve_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    start, pids = asyncio.create_subprocess_exec, []

    async def recorded(*words: Any, **settings: Any) -> asyncio.subprocess.Process:
        process = await start(*words, **settings)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", recorded)
    with serve_here(num_workers=2) as address:
        body = {**BODY, "max_tokens": 4096, "n": 16, "stream": True}
        with begin(address, body) as connection, connection.makefile("rb") as answer:
            until(lambda: answer.readline().startswith(b"data: "))
            os.kill(pids[0], signal.SIGKILL)
            last = answer.read().decode().strip().rpartition("data: ")[2]
            assert "defect" in json.loads(last.split("\n")[0])["error"]["message"]
        until(lambda: texts(address) == 0)
        assert ask(address)[0] == 200
        assert len(pids) == 4
        for pid in pids[:2]:  # the other one, too
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_checkpoint_that_was_written_anew_takes_the_place_of_the_old(in_smoke_run: Path):
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


def test_a_server_that_is_full_of_models_lets_the_one_go_that_was_not_used_for_longest(
    in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(models_module, "MOST_LOADED", 1)

    async def check() -> None:
        models = Models(find_checkpoint("best"), Limits(num_workers=1))
        _, first = await models.get("smoke/version_0/best")
        _, second = await models.get("smoke/version_0/last")
        assert (first.is_alive, second.is_alive) == (False, True)
        _, third = await models.get("smoke/version_0/best")
        assert (second.is_alive, third.is_alive) == (False, True)
        await models.closed()

    asyncio.run(check())
