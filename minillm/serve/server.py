"""uvicorn, told when to stop and how long to listen."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0  # until the head of the next request has come


class Protocol(HttpToolsProtocol):
    """HTTP, for those who say what they want; others are hung up on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Somebody has called."""
        super().connection_made(transport)
        self._silence = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def on_headers_complete(self) -> None:
        """They have said what they want."""
        self._silence.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """They may ask for more."""
        self._silence = self.loop.call_later(HEAD_SECONDS, self._hang_up)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """They have hung up."""
        self._silence.cancel()
        super().connection_lost(exc)

    def _hang_up(self) -> None:
        if not self.cycle or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """Serves an app until it is told to stop; then it finishes what it can.

    Args:
        app: What answers requests.
        grace: Seconds that texts in the making have after a signal; then their clients are told.
    """

    def __init__(self, app: FastAPI, grace: float) -> None:
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            log_config=None,
            access_log=False,
            backlog=2048,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=round(grace) + 5,
        )
        super().__init__(config)
        self._app, self._grace = app, grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first has everything finished, a second one does not wait, and needs no tracebacks."""
        if self.should_exit:
            logging.disable()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say where."""
        await super().startup(sockets)
        for listening in sockets or []:
            host, port = listening.getsockname()[:2]
            print(
                f"minillm serves at http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, finish what is being made, and after a while tell those who still wait."""
        self._app.state.is_stopping = True
        asyncio.get_running_loop().call_later(self._grace, self._app.state.models.close)
        await super().shutdown(sockets)
