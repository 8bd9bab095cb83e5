import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from minillm.checkpoint.find import find_checkpoint
from minillm.generation.load import Device
from minillm.serve.api import Access, create_app
from minillm.serve.limits import Limits
from minillm.serve.server import MAX_CONNECTIONS, Server
from tests.serve.client import until


@contextmanager
def serving(
    api_key: str | None = None,
    allowed_hosts: tuple[str, ...] = (),
    cors_origins: tuple[str, ...] = (),
    max_connections: int = MAX_CONNECTIONS,
    device: Device | None = None,
    **limits: Any,
) -> Generator[str]:
    """Serve the best checkpoint below the working folder in a thread; yield the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    access = Access(api_key, allowed_hosts, cors_origins)
    app = create_app(find_checkpoint("best"), Limits(**limits), access, device)
    server = Server(app, 0.2, Limits(**limits).keep_alive_seconds, max_connections)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    until(lambda: server.started, 60)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def served(smoke_run: Path) -> Iterator[str]:
    """Serve the smoke run's models for all tests; return the address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(smoke_run)
        with serving() as address:
            yield address


@pytest.fixture
def address(served: str, smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of that server, and change to its working folder: it runs in a thread of this process."""
    monkeypatch.chdir(smoke_run)
    return served


@pytest.fixture
def client(address: str) -> Iterator[OpenAI]:
    """OpenAI's client of that server."""
    with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def serve_here(in_smoke_run: Path) -> Callable[..., Any]:
    """Return a function that serves a copy of the smoke run with other settings."""
    return serving
