"""Send hostile requests to `serve`: generated from its schema, and bytes that are almost HTTP.

    pip install -e ".[test]"
    python benchmarks/hostile.py --ckpt_path best [--requests 10000]

Half of the generated requests have no API key. Fails if a response has a status of 500 or more other than 503 and 504,
if a request without the key is served, or if the memory of the server grows by more than 10 MB in the second half.
"""

import argparse
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import one_of
from schemathesis.generation import GenerationMode

KEY = "secret"
PUBLIC = {"/health", "/openapi.json"}
TIMEOUT_SECONDS = 30
NUM_EXAMPLES = 50  # of each operation and of raw requests, per round
RAW = [
    b"POST /v1/completions HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/completions%0A HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"GET /runs/../../etc/passwd HTTP/1.0\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Send hostile requests to serve.")
    parser.add_argument("--ckpt_path", default="best")
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    command = [sys.executable, "-m", "minillm", "serve", "--port", "0", "--api_key", KEY, "--max_seconds", "2"]
    with subprocess.Popen([*command, "--ckpt_path", options.ckpt_path], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
            subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            num_sent, memory, problems = 0, [memory_mb(server.pid)], list[str]()
            while num_sent < options.requests:
                num_sent += attack(address, len(memory), problems)
                memory.append(memory_mb(server.pid))
            growth = memory[-1] - memory[len(memory) // 2]
            print("memory of the server process after each round:", *memory, "MB")
        finally:
            server.terminate()
    sys.exit(1 if problems or growth > 20 else 0)


def attack(address: str, number: int, problems: list[str]) -> int:
    """Run a round: generated requests with the key and without it, and raw ones; return the number of requests."""
    schema: Any = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    statuses = Counter[int]()
    for operation in operations:
        strategies: Any = [operation.as_strategy(mode) for mode in GenerationMode]

        @seed(number)
        @given(one_of(strategies))
        @settings(
            max_examples=NUM_EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list[Any](HealthCheck),
            phases=[Phase.generate],
        )
        def send(case: Any) -> None:
            for headers in ({"Authorization": f"Bearer {KEY}"}, {}):
                case.headers = {**(case.headers or {}), **headers}
                status = case.call(timeout=TIMEOUT_SECONDS).status_code
                statuses[status] += 1
                if status >= 500 and status not in (503, 504):
                    problems.append(f"{case.method} {case.path}: {status} {case.body!r:.200}")
                if not headers and status == 200 and case.path not in PUBLIC:
                    problems.append(f"{case.method} {case.path} without the key: {status}")
                case.headers.pop("Authorization", None)

        send()
    for index in range(NUM_EXAMPLES):
        statuses[send_raw(address, random.Random(f"{number} {index}"))] += 1
    assert requests.get(f"{address}/health", timeout=TIMEOUT_SECONDS).status_code == 200
    counts = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
    print(f"round {number}, requests by status (0: closed): {counts}", flush=True)
    print(*problems[:20], sep="\n", end="")
    return statuses.total()


def send_raw(address: str, generator: random.Random) -> int:
    """Send bytes that are almost HTTP; return the status of the response, 0 if there is none."""
    host, port = address.removeprefix("http://").split(":")
    content = bytearray(generator.choice(RAW))
    for _ in range(generator.randint(0, 8)):
        content[generator.randrange(len(content))] = generator.randrange(256)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            found = re.match(rb"HTTP/1.1 (\d+)", connection.recv(4096))
        except (ConnectionError, TimeoutError):
            return 0
    return int(found[1]) if found else 0


def memory_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) // 1024


if __name__ == "__main__":
    main()
