"""ASGI middleware: request limits, authentication and the access log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minillm.serve.errors import RefusedError, error_response

MAX_BODY = 1_000_000  # bytes
BODY_SECONDS = 10.0  # until all of it has come
SEND_SECONDS = 30.0  # that a client may take to listen
LOCKED = re.compile("/v1/.*|/runs|/runs/.*|/attention")  # what the key is for; the page itself is no secret
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_access = logging.getLogger("minillm.access")
_defects = logging.getLogger("minillm.defects")


class Guard:
    """Lets whole requests of a reasonable size through, of those who have the key, and writes a line about each.

    Args:
        app: What answers them.
        api_key: What clients have to show; None: nothing.
    """

    def __init__(self, app: ASGIApp, api_key: str | None = None) -> None:
        self._app, self._api_key = app, api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = time.perf_counter(), 0, 0

        async def send_and_count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            size += len(message.get("body", b""))
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            _check_path(scope["path"])
            self._check_key(scope)
            body = await _read(scope, receive)
            if body is not None:
                await self._app(scope, _replay(body, receive), send_and_count)
        except HTTPException as error:
            await error_response(error)(scope, receive, send_and_count)
        except TimeoutError:
            pass  # nobody listens
        except Exception:
            _defects.exception("a defect")
            if not status:
                error = HTTPException(500, "a defect of the server: its log says more")
                await error_response(error)(scope, receive, send_and_count)
        finally:
            route = getattr(scope.get("route"), "path", None)  # not what was sent: that may be anything
            _access.info(
                json.dumps(
                    {
                        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        "client": scope["client"][0] if scope.get("client") else None,
                        "method": scope["method"],
                        "route": route,
                        "status": status,
                        "bytes": size,
                        "seconds": round(time.perf_counter() - began, 4),
                    }
                )
            )

    def _check_key(self, scope: Scope) -> None:
        if self._api_key is None or not LOCKED.fullmatch(scope["path"]):
            return
        scheme, _, shown = Headers(scope=scope).get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(shown.encode(), self._api_key.encode()):
            message = "this server wants its API key: send Authorization: Bearer KEY"
            raise RefusedError(401, message, code="invalid_api_key")


def _check_path(path: str) -> None:
    """Refuse control characters: the router accepts a line feed at the end of a path, the pattern LOCKED does not."""
    if found := CONTROL_CHARACTER.search(path):
        raise RefusedError(400, f"the path must not contain control characters, got U+{ord(found[0]):04X}")


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None if the client has left."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:  # also of too large ones: who is still sending does not listen
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size <= MAX_BODY:
                    body += chunk
    except TimeoutError:
        if size <= MAX_BODY:
            raise RefusedError(408, f"the request did not come within {BODY_SECONDS:g} s", code="timeout") from None
    if size > MAX_BODY:
        raise RefusedError(413, f"a request has at most {MAX_BODY:,} bytes", code="too_large")
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body, and then what the client does next: it leaves, sooner or later."""
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
