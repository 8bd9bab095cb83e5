"""Load test of `serve`: one client, concurrent clients, and clients that disconnect in the middle of a response.

python benchmarks/serving.py --ckpt_path best
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PROMPTS = [
    "ROMEO:\n",
    "First Citizen:\nBefore we proceed any further, hear me speak.\n",
    "KING RICHARD II:\nOld ",
    "\n",
]
LENGTHS = [100, 300, 500, 1000]  # tokens; different, so that requests end at different times


@dataclass
class ClientStats:
    """Latencies, characters and errors of the responses to some clients."""

    first_seconds: list[float] = field(default_factory=list)  # until the first character
    total_seconds: list[float] = field(default_factory=list)  # until the last character
    num_characters: int = 0
    num_rejected: int = 0  # with status 503
    errors: list[str] = field(default_factory=list)


async def stream_text(port: int, number: int, stats: ClientStats, disconnect_after: float | None = None) -> None:
    """Stream one completion; optionally disconnect after some seconds."""
    body = {"prompt": PROMPTS[number % 4], "max_tokens": LENGTHS[number // 4 % 4], "temperature": 0.8, "stream": True}
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
    started, first_seconds = time.perf_counter(), None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        status = int((await reader.readline()).split()[1])
        if status != 200:
            stats.num_rejected += status == 503
            stats.errors += [] if status == 503 else [f"status {status}"]
            return
        is_complete = False
        while line := await reader.readline():
            if disconnect_after is not None and time.perf_counter() - started > disconnect_after:
                return
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    stats.errors.append(event["error"]["message"])
                    return
                if event["choices"][0]["text"]:
                    first_seconds = first_seconds or time.perf_counter() - started
                    stats.num_characters += len(event["choices"][0]["text"])
            is_complete = is_complete or line.startswith(b"data: [DONE]")
        if is_complete:
            stats.first_seconds.append(first_seconds or 0.0)
            stats.total_seconds.append(time.perf_counter() - started)
        else:
            stats.errors.append("incomplete response")
    finally:
        writer.close()


async def run_clients(port: int, num_clients: int, seconds: float) -> tuple[ClientStats, float]:
    """Run concurrent clients that send one request after another; return their statistics and characters per second."""
    stats, end = ClientStats(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < end:
            await stream_text(port, number, stats)
            number += num_clients + 1  # so that every client alternates between short and long texts

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(num_clients)))
    return stats, stats.num_characters / (time.perf_counter() - started)


async def run_disconnecting_clients(port: int, num_clients: int) -> ClientStats:
    """Run clients that disconnect after 20 to 110 ms, at most 50 at a time."""
    stats, semaphore = ClientStats(), asyncio.Semaphore(50)

    async def client(number: int) -> None:
        async with semaphore:
            await stream_text(port, 15, stats, disconnect_after=0.02 + 0.1 * (number % 10) / 10)

    await asyncio.gather(*(client(number) for number in range(num_clients)))
    return stats


def resources(pid: int) -> dict[str, int]:
    """Return the threads, open files and memory in MB of a process and its children."""
    used = {"threads": 0, "files": 0, "MB": 0}
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    for number in [pid, *map(int, children)]:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines())
        used["threads"] += int(status["Threads"])
        used["files"] += len(list(Path(f"/proc/{number}/fd").iterdir()))
        used["MB"] += int(status["VmRSS"].split()[0]) // 1024
    return used


async def num_active_texts(port: int) -> int:
    """Return the number of texts that the server is generating."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return json.loads(body)["texts"]


def table_row(name: str, stats: ClientStats, rate: float, single_rate: float) -> str:
    """Format a row of the table."""

    def ms(values: list[float]) -> str:
        percentiles = statistics.quantiles(values, n=100)
        return f"{1000 * percentiles[49]:,.0f} | {1000 * percentiles[98]:,.0f}"

    counts = f"{len(stats.total_seconds):,} | {stats.num_rejected} | {len(stats.errors)}"
    rates = f"{rate:,.0f} | {rate / single_rate:.1f}"
    return f"| {name} | {counts} | {rates} | {ms(stats.first_seconds)} | {ms(stats.total_seconds)} |"


async def measure(port: int, pid: int, options: argparse.Namespace) -> None:
    """Run the three load tests and print their results."""
    await run_clients(port, 4, 2)  # warmup
    single, rate_before = await run_clients(port, 1, options.seconds / 2)
    many, many_rate = await run_clients(port, options.clients, options.seconds)
    single_after, rate_after = await run_clients(port, 1, options.seconds / 2)
    single_rate = statistics.mean([rate_before, rate_after])
    single.first_seconds += single_after.first_seconds
    single.total_seconds += single_after.total_seconds
    print(
        "| clients | texts | rejected | errors | characters/s | relative to one client "
        "| first character, ms: median | 99 % | whole text, ms: median | 99 % |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print(table_row("1", single, single_rate, single_rate))
    print(table_row(str(options.clients), many, many_rate, single_rate))
    for error in sorted(set(many.errors + single.errors + single_after.errors)):
        print("error:", error)
    before = resources(pid)
    disconnected = await run_disconnecting_clients(port, options.leaving)
    await asyncio.sleep(1)
    print(
        f"\n{options.leaving} disconnecting clients ({disconnected.num_rejected} rejected): before {before}, "
        f"after {resources(pid)}, texts still being generated: {await num_active_texts(port)}"
    )


def main() -> None:
    """Start a server, measure it and stop it."""
    parser = argparse.ArgumentParser(description="Load test of serve.")
    parser.add_argument("--ckpt_path", default="best")
    parser.add_argument("--clients", type=int, default=64, help="number of concurrent clients")
    parser.add_argument("--leaving", type=int, default=1000, help="number of disconnecting clients")
    parser.add_argument("--seconds", type=float, default=60, help="duration of the test with concurrent clients")
    options = parser.parse_args()
    command = [sys.executable, "-m", "minillm", "serve", "--ckpt_path", options.ckpt_path, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            port = next(int(found[1]) for line in server.stderr if (found := re.search(r"http://.*:(\d+)", line)))
            subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            asyncio.run(measure(port, server.pid, options))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
