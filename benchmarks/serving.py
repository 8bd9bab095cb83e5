"""How `serve` fares under load: one client, many at the same time, and many that leave midway.

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
LENGTHS = [100, 300, 500, 1000]  # tokens; so requests end at different times


@dataclass
class Tally:
    """What some clients saw."""

    first: list[float] = field(default_factory=list)  # seconds to the first character
    whole: list[float] = field(default_factory=list)  # seconds to the last one
    characters: int = 0
    busy: int = 0
    errors: list[str] = field(default_factory=list)


async def ask(port: int, number: int, tally: Tally, leave_after: float | None = None) -> None:
    """Stream one text; perhaps hang up in the middle of it."""
    body = {"prompt": PROMPTS[number % 4], "max_tokens": LENGTHS[number // 4 % 4], "temperature": 0.8, "stream": True}
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
    began, first = time.perf_counter(), None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        status = int((await reader.readline()).split()[1])
        if status != 200:
            tally.busy += status == 503
            tally.errors += [] if status == 503 else [f"status {status}"]
            return
        finished = False
        while line := await reader.readline():
            if leave_after is not None and time.perf_counter() - began > leave_after:
                return
            if line.startswith(b"data: {"):
                part = json.loads(line[6:])
                if "error" in part:
                    tally.errors.append(part["error"]["message"])
                    return
                if part["choices"][0]["text"]:
                    first = first or time.perf_counter() - began
                    tally.characters += len(part["choices"][0]["text"])
            finished = finished or line.startswith(b"data: [DONE]")
        if finished:
            tally.first.append(first or 0.0)
            tally.whole.append(time.perf_counter() - began)
        else:
            tally.errors.append("broken off")
    finally:
        writer.close()


async def load(port: int, clients: int, seconds: float) -> tuple[Tally, float]:
    """Clients that ask again as soon as they have their text; what they saw, and characters a second of all."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < end:
            await ask(port, number, tally)
            number += clients + 1  # so that each asks for short and long ones in turn

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return tally, tally.characters / (time.perf_counter() - began)


async def leave(port: int, clients: int) -> Tally:
    """Clients that hang up after a tenth of a second, fifty at a time."""
    tally, turn = Tally(), asyncio.Semaphore(50)

    async def client(number: int) -> None:
        async with turn:
            await ask(port, 15, tally, leave_after=0.02 + 0.1 * (number % 10) / 10)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return tally


def state(pid: int) -> dict[str, int]:
    """What a process and those that it started hold: threads, open files and memory in MB."""
    held = {"threads": 0, "files": 0, "MB": 0}
    for number in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines())
        held["threads"] += int(status["Threads"])
        held["files"] += len(list(Path(f"/proc/{number}/fd").iterdir()))
        held["MB"] += int(status["VmRSS"].split()[0]) // 1024
    return held


async def texts(port: int) -> int:
    """How many texts the server is making."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return json.loads(answer)["texts"]


def row(name: str, tally: Tally, rate: float, alone: float) -> str:
    """A line of the table."""

    def ms(values: list[float]) -> str:
        centiles = statistics.quantiles(values, n=100)
        return f"{1000 * centiles[49]:,.0f} | {1000 * centiles[98]:,.0f}"

    numbers = f"{len(tally.whole):,} | {tally.busy} | {len(tally.errors)} | {rate:,.0f} | {rate / alone:.1f}"
    return f"| {name} | {numbers} | {ms(tally.first)} | {ms(tally.whole)} |"


async def measure(port: int, pid: int, options: argparse.Namespace) -> None:
    """Run the three parts, and print what came out."""
    await load(port, 4, 2)
    alone, alone_rate = await load(port, 1, options.seconds / 2)
    many, many_rate = await load(port, options.clients, options.seconds)
    again, again_rate = await load(port, 1, options.seconds / 2)
    one = statistics.mean([alone_rate, again_rate])
    alone.first += again.first
    alone.whole += again.whole
    print(
        "| clients | texts | sent away | errors | characters/s | times one "
        "| first character, ms: median | 99 % | whole text, ms: median | 99 % |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print(row("1", alone, one, one))
    print(row(str(options.clients), many, many_rate, one))
    for error in sorted(set(many.errors + alone.errors + again.errors)):
        print("error:", error)
    before = state(pid)
    left = await leave(port, options.leaving)
    await asyncio.sleep(1)
    print(
        f"\n{options.leaving} clients that left midway ({left.busy} sent away): before {before}, after {state(pid)}, "
        f"texts still being made: {await texts(port)}"
    )


def main() -> None:
    """Start a server, measure it, and stop it."""
    parser = argparse.ArgumentParser(description="Measure serve under load.")
    parser.add_argument("--ckpt_path", default="best")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--leaving", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
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
