"""ASGI middleware: checks of the host, the origin and the size of a request, and the access log."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minillm.serve.errors import RefusedError, error_response

MAX_BODY_BYTES = 1_000_000
BODY_TIMEOUT_SECONDS = 10.0
SEND_TIMEOUT_SECONDS = 30.0  # for a client that does not read
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:\d+)?")  # name or address, and port
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_access = logging.getLogger("minillm.access")
_errors = logging.getLogger("minillm.errors")


class RequestGuard:
    """Check a request and read its body before it is routed; log every request.

    Args:
        app: The application.
        allowed_hosts: Host names that requests may name, besides `localhost` and IP addresses: a check against DNS
            rebinding, which needs a name.
        cors_origins: Origins of other sites whose pages may send requests.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...] = (), cors_origins: tuple[str, ...] = ()) -> None:
        self._app, self._cors_origins = app, cors_origins
        self._allowed_hosts = {"localhost", *(host.lower() for host in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, num_bytes = time.perf_counter(), 0, 0
        request = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # uvicorn sends no body for HEAD

        async def send_and_count(message: Message) -> None:
            nonlocal status, num_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            num_bytes += len(message.get("body", b""))
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await send(message)

        try:
            self._check(request)
            body = await _read_body(request, receive)
            if body is not None:
                await self._app(request, _replay(body, receive), send_and_count)
        except HTTPException as error:
            await error_response(error)(request, receive, send_and_count)
        except TimeoutError:
            pass  # the client does not read
        except Exception:
            _errors.exception("unexpected error")
            if not status:
                error = HTTPException(500, "unexpected error: the log has the details")
                await error_response(error)(request, receive, send_and_count)
        finally:
            _log_access(scope, request, status, num_bytes, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if found := CONTROL_CHARACTER.search(scope["path"]):
            raise RefusedError(400, f"the path must not contain control characters, got U+{ord(found[0]):04X}")
        host = headers.get("Host", "")
        if not self._is_allowed_host(host):
            name = host[:100]
            raise RefusedError(400, f"host {name!r} is not allowed: start the server with --allowed_hosts {name}")
        self._check_origin(scope["path"], headers)
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and media_type != "application/json":
            raise RefusedError(415, "send a JSON object, with Content-Type: application/json")

    def _is_allowed_host(self, host: str) -> bool:
        match = HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower().removesuffix(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._allowed_hosts
        return True

    def _check_origin(self, path: str, headers: Headers) -> None:
        """Refuse requests of other sites' pages, except for a link to the page."""
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        if origin in self._cors_origins:
            return
        is_link = path == "/" and headers.get("Sec-Fetch-Mode") == "navigate"
        is_foreign = site in ("cross-site", "same-site") if origin is None else _host(origin) != headers["Host"].lower()
        if is_foreign and not is_link:
            raise RefusedError(403, "requests of other sites are not allowed: start the server with --cors_origin")


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _log_access(scope: Scope, request: Scope, status: int, num_bytes: int, seconds: float) -> None:
    route = getattr(request.get("route"), "path", None)  # rather than the path, which may contain anything
    client = scope["client"][0] if scope.get("client") else None
    fields = {"client": client, "method": scope["method"], "route": route, "status": status}
    _access.info("request", extra={"fields": {**fields, "bytes": num_bytes, "seconds": round(seconds, 4)}})


async def _read_body(scope: Scope, receive: Receive) -> bytes | None:
    """Read the whole body; return None if the client disconnects."""
    body, num_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            more = True
            while more:  # also beyond the limit: a client that still sends does not read the response
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk, more = message.get("body", b""), message.get("more_body", False)
                num_bytes += len(chunk)
                if num_bytes <= MAX_BODY_BYTES:
                    body += chunk
    except TimeoutError:
        if num_bytes <= MAX_BODY_BYTES:
            message = f"the request body did not arrive within {BODY_TIMEOUT_SECONDS:g} s"
            raise RefusedError(408, message, code="timeout") from None
    if num_bytes > MAX_BODY_BYTES:
        raise RefusedError(413, f"a request body has at most {MAX_BODY_BYTES:,} bytes", code="too_large")
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body that has been read, and then the client's disconnection."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
