import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from minillm.checkpoint.find import find_checkpoint
from minillm.serve import api, guard, server
from minillm.serve.limits import Limits
from minillm.serve.logs import JSONFormatter
from tests.serve.client import BODY, ask, begin, error, texts, until


@pytest.mark.parametrize("stream", [True, False])
def test_disconnected_clients_leave_nothing_running(address: str, stream: bool):
    threads = threading.active_count()
    for _ in range(3):
        connections = [begin(address, {**BODY, "max_tokens": 4096, "stream": stream}) for _ in range(20)]
        until(lambda: texts(address) == 20)
        for connection in connections:
            connection.close()
        until(lambda: texts(address) == 0)
    assert threading.active_count() == threads


def test_a_full_queue_is_503_with_retry_after(serve_here: Callable[..., Any]):
    with serve_here(max_batch_size=1, max_waiting=2) as address:
        connections = [begin(address, {**BODY, "max_tokens": 4096, "n": 3})]
        until(lambda: texts(address) == 3)
        status, headers, content = ask(address)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert json.loads(content)["error"]["code"] == "overloaded"
        connections[0].close()
        until(lambda: texts(address) == 0)
        assert ask(address)[0] == 200


def test_texts_wait_for_their_turn_where_the_batch_is_full(serve_here: Callable[..., Any]):
    with serve_here(max_batch_size=2) as address:
        _, _, content = ask(address, body={**BODY, "n": 7, "seed": 1})
    with serve_here() as address:
        _, _, expected = ask(address, body={**BODY, "n": 7, "seed": 1})
    assert json.loads(content)["choices"] == json.loads(expected)["choices"]


@pytest.mark.parametrize(
    "settings", [{"max_tokens": 4096}, {"prompt": "A" * 60_000, "max_tokens": 0, "echo": True, "logprobs": 1}]
)
def test_a_request_ends_at_its_timeout(serve_here: Callable[..., Any], settings: dict[str, Any]):
    with serve_here(max_seconds=0.05) as address:
        status, found = error(address, body={**BODY, **settings})
        assert (status, found["code"]) == (504, "deadline_exceeded")
        if "echo" not in settings:
            _, _, stream = ask(address, body={**BODY, **settings, "stream": True})
            last = json.loads(stream.decode().strip().rpartition("data: ")[2])
            assert last["error"]["code"] == "deadline_exceeded"
        until(lambda: texts(address) == 0)


def test_the_api_key_protects_everything_but_the_page(serve_here: Callable[..., Any]):
    with serve_here(api_key="key") as address:
        for path, body in (
            ("/v1/completions", BODY),
            ("/v1/models", None),
            ("/runs", None),
            ("/attention", {"text": "A"}),
        ):
            for given in ({}, {"Authorization": "Bearer ke"}, {"Authorization": "Bearer \u00e9"}):
                status, found = error(address, path, body, **given)
                assert (status, found["code"]) == (401, "invalid_api_key")
            assert ask(address, path, body, Authorization="Bearer key")[0] == 200
        for path in ("/", "/health", *(f"/{file.name}" for file in api.PAGE.iterdir())):
            assert ask(address, path, None)[0] == 200


CONTROL_CHARACTERS = ["%0A", "%0D", "%0D%0A", "%00", "%09", "%1B", "%7F", "%C2%85"]


@pytest.mark.parametrize("control", CONTROL_CHARACTERS)
def test_no_route_answers_to_a_path_with_a_control_character(serve_here: Callable[..., Any], control: str):
    found = [route for route in api.router.routes if isinstance(route, APIRoute)]
    routes = {route.path: "POST" if "POST" in (route.methods or ()) else "GET" for route in found}
    assert {"/v1/completions", "/v1/models", "/attention", "/runs", "/runs/{name:path}"} <= routes.keys()
    with serve_here(api_key="key") as address:
        for route, method in routes.items():
            path = re.sub(r"\{.*?\}", "smoke/version_0", route)
            content = {"/attention": {"text": "A"}}.get(route, BODY) if method == "POST" else None
            spellings = (f"{path}{control}", f"{path}{control}{control}", f"/{control}{path[1:]}", f"{path}/{control}")
            for spelling in spellings:
                for given in ({}, {"Authorization": "Bearer key"}):
                    status, found = error(address, spelling, content, **given)
                    assert status == 400, spelling
                    assert "control characters" in found["message"]


def test_a_body_has_a_size_and_a_time(serve_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "BODY_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(server, "HEAD_TIMEOUT_SECONDS", 0.3)
    with serve_here() as address:
        assert error(address, body=b"[" + b" " * 10_000_000 + b"]")[0] == 413
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        with socket.create_connection((host, int(port)), timeout=20) as endless:
            endless.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(40):
                endless.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            assert endless.recv(100).startswith(b"HTTP/1.1 413")
        with socket.create_connection((host, int(port)), timeout=20) as silent:
            silent.sendall(b"POST /v1/comp")
            assert silent.recv(100) == b""  # closed
        assert ask(address)[0] == 200


def test_the_log_is_json_without_prompts(address: str, caplog: pytest.LogCaptureFixture):
    expected = [("POST", "/v1/completions", 200), ("GET", "/v1/models/{model:path}", 404)]

    def lines() -> list[dict[str, Any]]:
        return [json.loads(JSONFormatter().format(record)) for record in caplog.records]

    with caplog.at_level("INFO", "minillm.access"):
        ask(address, body={**BODY, "prompt": "SECRET", "user": "SECRET"})
        ask(address, "/v1/models/SECRET?SECRET", None)
        until(lambda: {(line["method"], line["route"], line["status"]) for line in lines()} >= {*expected})
    fields = {"client", "method", "route", "status", "bytes", "seconds"}
    assert lines()[0].keys() == {"time", "level", "logger", "message", *fields}
    assert "SECRET" not in str(lines())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_texts_finish_and_then_ends_the_program(in_smoke_run: Path, signum: signal.Signals):
    command = [sys.executable, "-m", "minillm", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        with (
            begin(address, {**BODY, "max_tokens": 2000, "stream": True}) as connection,
            connection.makefile("rb") as answer,
        ):
            until(lambda: answer.readline().startswith(b"data: "))
            process.send_signal(signum)
            assert b"data: [DONE]" in answer.read()
        assert process.wait(20) in (-signum, 128 + signum)


def test_a_second_signal_ends_the_program_at_once(in_smoke_run: Path):
    command = [sys.executable, "-m", "minillm", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        with begin(address, {**BODY, "max_tokens": 4096, "n": 64, "stream": True}) as connection:
            assert connection.recv(10)
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            started = time.monotonic()
            assert process.wait(20) in (-signal.SIGTERM, 128 + signal.SIGTERM)
            assert time.monotonic() - started < 6
        lines = process.stderr.read().splitlines()
        assert all(json.loads(line)["level"] for line in lines), lines


def test_idle_connections_leave_open_files_where_the_system_allows_few(in_smoke_run: Path):
    command = f"ulimit -n 700; exec {sys.executable} -m minillm serve --port 0"
    with subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, text=True) as process, ExitStack() as stack:
        stack.callback(process.terminate)
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        host, port = address.removeprefix("http://").split(":")
        for _ in range(400):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        assert ask(address)[0] == 200
        process.terminate()
        assert "Too many open files" not in process.stderr.read()


def test_running_requests_end_with_an_error_after_the_grace_time(in_smoke_run: Path):
    listening = socket.create_server(("127.0.0.1", 0))
    stopping = server.Server(api.create_app(find_checkpoint("best"), Limits()), 0.1, 75, server.MAX_CONNECTIONS)
    thread = threading.Thread(target=stopping.run, args=([listening],))
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    until(lambda: stopping.started)
    with (
        begin(address, {**BODY, "max_tokens": 4096, "n": 16, "stream": True}) as connection,
        connection.makefile("rb") as answer,
    ):
        until(lambda: answer.readline().startswith(b"data: "))
        stopping.should_exit = True
        last = answer.read().decode().strip().rpartition("data: ")[2]
        assert "the server is stopping" in json.loads(last.split("\n")[0])["error"]["message"]
    thread.join(20)
    assert not thread.is_alive()


def test_a_missing_extra_is_named(in_smoke_run: Path):
    code = "import sys; sys.modules['fastapi'] = None; from minillm.cli import main; main(['serve'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=False)
    assert (done.returncode, done.stderr) == (2, "minillm: error: serve needs fastapi: pip install 'minillm[web]'\n")
