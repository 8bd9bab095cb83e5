"""Who may send requests, and which connections are kept."""

import http.client
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from minillm.checkpoint.run_folder import checkpoint_files
from minillm.serve import api, server
from minillm.serve.api import PUBLIC_ROUTES, router
from minillm.serve.responses import Detokenized
from tests.serve.client import BODY, ask, error, until

Serve = Callable[..., Any]
CONTENT = {
    "/attention": {"text": "A"},
    "/attention_maps": {"text": "A"},
    "/logit_lens": {"text": "A"},
    "/verbatim_matches": {"text": "A"},
    "/tokenize": {"prompt": "A"},
    "/detokenize": {"tokens": [1]},
}
SUFFIXES = ["", "/", "//", "/.", "%0A", "%0D", "%00", "%20", "%2F", ";a", ";a=b", "?a", "%3F", "%23", "%85"]


def routes() -> dict[str, str]:
    found = [route for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: "POST" if "POST" in (route.methods or ()) else "GET" for route in found}


def spellings(path: str) -> list[str]:
    first, *rest = path.removeprefix("/").split("/")
    tail = "".join(f"/{part}" for part in rest)
    changed = [f"//{first}{tail}", f"/./{first}{tail}", f"/x/../{first}{tail}", f"/{first.upper()}{tail.upper()}"]
    changed += [f"/{first}/{tail}", f"/%{ord(first[0]):02x}{first[1:]}{tail}", f"/{first}{tail.replace('/', '%2F')}"]
    return [*(f"{path}{suffix}" for suffix in SUFFIXES), *changed]


def raw(address: str, request: bytes) -> bytes:
    """Send bytes, and read the response to its end."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def test_no_spelling_of_a_path_opens_a_route_without_the_key(serve_here: Serve):
    pages = {file.read_bytes() for file in api.PAGE.iterdir()}
    with serve_here(api_key="key") as address:
        assert len(routes()) >= 10
        for route, method in routes().items():
            path = re.sub(r"\{.*?\}", "smoke/version_0", route)
            content = CONTENT.get(route, BODY) if method == "POST" else None
            assert ask(address, path, content, Authorization="Bearer key")[0] in (200, 404)
            for spelling in spellings(path):
                status, _, body = ask(address, spelling, content)
                is_public = route in PUBLIC_ROUTES or body in pages
                assert is_public or status in (400, 401, 404, 405, 307), spelling
                if status == 200 and not is_public:
                    pytest.fail(spelling)
            for given in ("Bearer ke", "Bearer \u00e9", "Basic key", "Bearer", "key"):
                if route not in PUBLIC_ROUTES:
                    status, found = error(address, path, content, Authorization=given)
                    assert (status, found["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1:80", 200), ("[::1]:80", 200), ("192.168.1.5", 200),
     ("evil.example", 400), ("127.0.0.1.evil.example", 400), ("localhost.evil.example:80", 400), ("", 400),
     ("a@localhost", 400), ("[::1", 400), ("localhost:80:80", 400), ("friend.example", 200)],
)  # fmt: skip
def test_only_hosts_that_are_allowed_are_served(serve_here: Serve, host: str, status: int):
    with serve_here(allowed_hosts=("friend.example",)) as address:
        answer = raw(address, f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status}".encode())
        if status == 400 and host:
            assert b"--allowed_hosts" in answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://[evil"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
def test_pages_of_other_sites_cannot_send_requests(serve_here: Serve, headers: dict[str, str], status: int):
    with serve_here(cors_origins=("https://friend.example",)) as address:
        for path, body in (("/v1/completions", BODY), ("/v1/models", None)):
            assert ask(address, path, body, **headers)[0] == status
        assert ask(address, "/v1/models", None, Origin=address)[0] == 200
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert ask(address, "/", None, **link)[0] == 200


def test_a_preflight_needs_no_key_and_only_named_origins_pass(serve_here: Serve):
    with serve_here(api_key="key", cors_origins=("https://friend.example",)) as address:
        for origin, status in (("https://friend.example", 200), ("https://evil.example", 400)):
            lines = f"OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nConnection: close\r\n"
            lines += "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
            answer = raw(address, lines.encode()).lower()
            assert answer.startswith(f"http/1.1 {status}".encode())
            assert (b"access-control-allow-origin: https://friend.example" in answer) == (status == 200)
        given = {"Origin": "https://friend.example", "Authorization": "Bearer key"}
        status, headers, _ = ask(address, **given)
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://friend.example")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json-evil"])
def test_a_body_must_be_json(address: str, kind: str):
    status, found = error(address, **{"Content-Type": kind})
    assert (status, found["message"]) == (415, "send a JSON object, with Content-Type: application/json")


def test_a_request_head_has_a_size(address: str):
    start = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    heads = [
        start + b"A: " + b"x" * 1_000_000,
        start + b"A: b\r\n" * 200_000,
        start + b"".join(b"A%d: b\r\n" % n for n in range(10_000)) + b"\r\n",
        b"GET /" + b"x" * 1_000_000,
        b"GET /" + b"x" * 65_000 + b" HTTP/1.1\r\nHost: localhost\r\nA: " + b"y" * 1000 + b"\r\n\r\n",
    ]
    for head in heads:
        assert raw(address, head).startswith(b"HTTP/1.1 431") or raw(address, head) == b""
    assert raw(address, heads[2]).startswith(b"HTTP/1.1 431")
    assert ask(address, "/health", None)[0] == 200


def test_a_head_must_arrive_in_time_but_a_connection_may_be_idle_for_longer(
    serve_here: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "HEAD_TIMEOUT_SECONDS", 0.3)
    with serve_here() as address:
        host, port = address.removeprefix("http://").split(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=20)) as connection:
            for _ in range(3):
                connection.request("GET", "/health")
                assert connection.getresponse().read()
                time.sleep(0.6)
            assert connection.sock is not None
            connection.sock.sendall(b"GET /hea")  # never completed
            assert connection.sock.recv(100) == b""


def test_keep_alive_ends_after_its_time(serve_here: Serve):
    with serve_here(keep_alive_seconds=1) as address:
        host, port = address.removeprefix("http://").split(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=20)) as connection:
            connection.request("GET", "/health")
            connection.getresponse().read()
            assert connection.sock is not None
            assert connection.sock.recv(100) == b""


def test_idle_connections_make_room_for_new_ones(serve_here: Serve):
    with serve_here(max_connections=4) as address:
        host, port = address.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=20) for _ in range(12)]
        assert ask(address)[0] == 200
        assert idle[0].recv(100) == b""
        for connection in idle:
            connection.close()
        busy = [http.client.HTTPConnection(host, int(port), timeout=20) for _ in range(4)]
        for connection in busy:
            content = json.dumps({**BODY, "max_tokens": 4096, "n": 8, "stream": True})
            connection.request("POST", "/v1/completions", content, {"Content-Type": "application/json"})
            assert connection.getresponse().readline()
        assert raw(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 503")
        for connection in busy:
            connection.close()
        until(lambda: ask(address, "/health", None)[0] == 200)


def test_head_is_get_without_a_body_and_a_wrong_method_names_the_right_one(address: str):
    for path in ("/health", "/v1/models", "/", "/page.js"):
        expected = ask(address, path, None)[1]["Content-Length"]
        answer = raw(address, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == b""
        assert expected is None or f"content-length: {expected}".encode() in head.lower()
    for method, path, allowed in (("GET", "/v1/completions", "POST"), ("PUT", "/v1/models", "GET")):
        answer = raw(address, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 405")
        assert f"allow: {allowed}\r\n".encode() in answer.lower().replace(b"post", b"POST").replace(b"get", b"GET")
    status, found = error(address, "/v1/chat/completions", {"messages": []})
    assert (status, "POST /v1/completions" in found["message"]) == (404, True)


def test_a_stream_is_not_buffered_and_has_no_line_separators_of_unicode(address: str):
    _, headers, _ = ask(address, body={**BODY, "stream": True})
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
    event = api._event(Detokenized(prompt="a\x85b\u2028c\u2029dé"))
    assert event.splitlines() == ['data: {"prompt":"a\\u0085b\\u2028c\\u2029dé"}', ""]


def test_the_schema_has_the_names_of_json_schema(address: str):
    text = ask(address, "/openapi.json", None)[2].decode()
    assert not re.findall(r'"(ge|le|gt|lt)":', text)
    fields = json.loads(text)["components"]["schemas"]["CompletionRequest"]["properties"]
    assert {"type": "integer", "minimum": 0, "maximum": 4096} in fields["max_tokens"]["anyOf"]


def test_many_unknown_fields_are_refused_at_the_first(address: str):
    body = json.dumps({f"field{n}": n for n in range(45_000)}).encode()
    assert 800_000 < len(body) < 1_000_000
    started = time.perf_counter()
    status, found = error(address, body=body)
    assert (status, found["message"]) == (400, "body: unknown field 'field0'")
    assert time.perf_counter() - started < 0.5


def test_a_folder_whose_name_is_not_utf8_is_left_out(serve_here: Serve):
    shutil.copytree("lightning_logs/smoke", os.fsdecode(b"lightning_logs/caf\xe9"))
    Path(
        os.fsdecode(b"lightning_logs/caf\xe9/version_0/checkpoints/best.ckpt")
    ).unlink()  # the default would be this one
    with serve_here() as address:
        status, _, content = ask(address, "/v1/models", None)
        assert status == 200
        assert {model["id"].partition("/")[0] for model in json.loads(content)["data"]} == {"smoke"}


def test_a_checkpoint_that_is_replaced_by_a_link_is_not_served(serve_here: Serve, tmp_path: Path):
    with serve_here() as address:
        name = next(name for name in checkpoint_files() if name.endswith("last"))
        file = checkpoint_files()[name].file
        shutil.copy(file, tmp_path / "secret.ckpt")
        file.unlink()
        file.symlink_to(tmp_path / "secret.ckpt")
        assert error(address, body={**BODY, "model": name})[0] == 404
