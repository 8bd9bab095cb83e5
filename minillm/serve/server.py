"""HTTP server: uvicorn with limits on connections and request heads, and a graceful end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_SECONDS = 10.0  # from the first byte of a request to the end of its head
MAX_HEAD_BYTES = 65_536
MAX_CONNECTIONS = 1_000
BACKLOG = 128  # connections that wait to be accepted
SHUTDOWN_MARGIN_SECONDS = 5


class Connection(HttpToolsProtocol):
    """HTTP/1.1 connection that must send the head of a request in time, and none that is too large.

    Args:
        max_connections: Number of connections above which idle ones are closed and others refused.
        arguments: uvicorn's arguments.
    """

    def __init__(self, max_connections: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.max_connections = max_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the timeout; above `max_connections`, close the connection that has been idle for longest."""
        super().connection_made(transport)
        self._start_head()
        self.idle_since: float | None = self.loop.time()
        if len(self.connections) > self.max_connections:
            others: list[Connection] = [c for c in self.connections if c is not self]  # pyright: ignore[reportAssignmentType]
            idle = [(c.idle_since, c) for c in others if c.idle_since is not None]
            if idle:
                min(idle, key=lambda pair: pair[0])[1].transport.close()
            else:
                self._refuse("503 Service Unavailable", "too many connections: try again soon")

    def data_received(self, data: bytes) -> None:
        """Parse data, and refuse a head that is too large before it is complete."""
        if self._reads_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reads_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Start the timeout of the next request."""
        self._head_timer.cancel()
        self._start_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timeout; refuse a head that is too large."""
        self._reads_head, self.idle_since = False, None
        self._head_timer.cancel()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse_head()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Count the connection as idle; uvicorn closes it after the keep-alive timeout."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _start_head(self) -> None:
        self._reads_head, self._head_bytes = True, 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._close_unless_busy)

    def _close_unless_busy(self) -> None:
        if not self.cycle or self.cycle.response_complete:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._reads_head = False
        self._refuse("431 Request Header Fields Too Large", f"a request head has at most {MAX_HEAD_BYTES:,} bytes")

    def _refuse(self, status: str, message: str) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(message)}\r\nconnection: close"
        self.transport.write(f"{head}\r\n\r\n{message}".encode())
        self.transport.close()


def connection_limit() -> int:
    """Raise the limit of open files; return the number of connections that half of it leaves room for.

    Returns:
        `MAX_CONNECTIONS`, or fewer where the system does not allow as many open files. The other half is for a burst of
        new connections, of which asyncio accepts several backlogs before it closes any.
    """
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    if 0 <= soft < wanted:
        soft = wanted if hard < 0 else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MAX_CONNECTIONS if soft < 0 else min(MAX_CONNECTIONS, soft // 2)


class Server(uvicorn.Server):
    """uvicorn server that finishes running requests after a signal.

    Args:
        app: The application.
        grace_seconds: Time for running requests to finish after a signal; then they end with an error.
        keep_alive_seconds: Time after which an idle connection is closed.
        max_connections: As for `Connection`.
    """

    def __init__(self, app: FastAPI, grace_seconds: float, keep_alive_seconds: int, max_connections: int) -> None:
        config = uvicorn.Config(
            app,
            http=partial(Connection, max_connections),  # pyright: ignore[reportArgumentType]
            ws="none",
            log_config=None,
            access_log=False,
            backlog=BACKLOG,
            timeout_keep_alive=keep_alive_seconds,
            timeout_graceful_shutdown=round(grace_seconds) + SHUTDOWN_MARGIN_SECONDS,
        )
        super().__init__(config)
        self._app, self._grace_seconds = app, grace_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gracefully at the first signal, and immediately at the second."""
        if self.should_exit:
            logging.disable()  # of the tracebacks of cancelled requests
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, and print the address."""
        await super().startup(sockets)
        for server_socket in sockets or []:
            host, port = server_socket.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"minillm serves at {address}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no further requests, and end those that take longer than the grace time."""
        self._app.state.is_stopping = True
        asyncio.get_running_loop().call_later(self._grace_seconds, self._app.state.models.close)
        await super().shutdown(sockets)
