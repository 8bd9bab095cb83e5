"""HTTP requests of the tests."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

BODY = {"prompt": "A", "max_tokens": 5}


def ask(address: str, path: str = "/v1/completions", body: object = BODY, **headers: str) -> tuple[int, Any, Any]:
    """Send a request, a GET if it has no body; return the status, headers and content of the response."""
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(address + path, content, {"Content-Type": "application/json", **headers})
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        return error.code, error.headers, error.read()


def error(address: str, *args: Any, **kwargs: Any) -> tuple[int, dict[str, Any]]:
    """Send a request; return the status and the error of the response, which must be an error response."""
    status, _, content = ask(address, *args, **kwargs)
    found = json.loads(content)["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return status, found


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def texts(address: str) -> int:
    return json.loads(ask(address, "/health", None)[2])["texts"]


def begin(address: str, body: dict[str, Any], head: str = "") -> socket.socket:
    """Open a connection, and send a completion request without reading the response."""
    host, port = address.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = head or f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection
