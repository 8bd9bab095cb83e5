"""Measure training, writing and starting beside their peers, in one run: a table, and all figures as JSON.

    pip install -e ".[benchmarks]"
    python benchmarks/speed [--only training] [--rounds 7] [--output benchmarks/reference]

Contestants take turns in processes of their own, so that a slow minute of the machine is slow for all of them; what is
printed are medians of the turns, and medians of the ratios within a turn.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import generation
import growth
import startup
import torch
import training
from sizes import Sizes
from workers import Entry, Result, race

MEMORY_STEPS = (100, 1000)


def main() -> None:
    """Run the parts that are asked for."""
    parts: dict[str, Callable[[int, Path], dict]] = {
        "training": train,
        "generation": write,
        "startup": start,
        "memory": remember,
        "growth": grow,
    }
    parser = argparse.ArgumentParser(description="Measure speed beside peers, in one run.")
    parser.add_argument("--only", choices=parts, action="append", help="a part; may be given more than once")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contestant")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/reference"), help="where JSON and plot go")
    options = parser.parse_args()
    file = options.output / "speed.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for name in options.only or parts:
        print(f"\n## {name}: {where()}\n", flush=True)
        found[name] = {"where": where(), "results": parts[name](options.rounds, options.output)}
        file.write_text(json.dumps(found, indent=1) + "\n")


def where() -> str:
    """The machine, the versions, the commit and the date."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    file = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", file.read_text()) if file.exists() else []
    processor = names[0] if names else platform.processor()
    machine = f"{os.cpu_count()} cores of {processor}"
    return f"{machine}, torch {torch.__version__}, commit {commit}, {datetime.now(UTC):%Y-%m-%d}"


def train(rounds: int, output: Path) -> dict:
    """One optimizer step at the reference sizes."""
    settings = {"sizes": Sizes()}
    entries = {
        "minillm fit": Entry(training.fit, 120, settings),
        "our model in a bare loop": Entry(training.bare_loop, 120, settings),
        "Hugging Face GPT-2, eager float32": Entry(training.huggingface, 30, {**settings, "bf16": False}),
        "Hugging Face GPT-2, eager, bf16 autocast": Entry(training.huggingface, 40, {**settings, "bf16": True}),
        "nn.TransformerEncoder, float32": Entry(training.torch_encoder, 30, {**settings, "bf16": False}),
        "nn.TransformerEncoder, bf16 autocast": Entry(training.torch_encoder, 40, {**settings, "bf16": True}),
        "floor: the matrix products alone": Entry(training.floor, 120, settings),
    }
    results = race(entries, rounds)
    print("| training, a step of 32 x 64 characters | ms | time relative to fit | peak memory, MB |\n|---|---|---|---|")
    fit = results["minillm fit"]
    for name, result in results.items():
        print(f"| {name} | {1e3 * result.median:.1f} | {ratio(result, fit):.2f} | {result.peak_mb:.0f} |")
    return {name: asdict(result) for name, result in results.items()}


def write(rounds: int, output: Path) -> dict:
    """500 characters after a prompt, one text and 64 texts at once."""
    found = {}
    print("| writing 500 characters | characters a second | ours relative to it |\n|---|---|---|")
    for texts, n in ((1, 3), (64, 1)):
        settings = {"sizes": Sizes(), "texts": texts}
        ours, theirs = f"minillm, batch {texts}", f"Hugging Face generate, batch {texts}"
        entries = {ours: Entry(generation.ours, n, settings), theirs: Entry(generation.huggingface, 1, settings)}
        results = race(entries, rounds)
        for name, result in results.items():
            speed = texts * generation.NEW / result.median
            print(f"| {name} | {speed:,.0f} | {ratio(result, results[ours]):.1f} |", flush=True)
        found |= {name: asdict(result) for name, result in results.items()}
    return found


def start(rounds: int, output: Path) -> dict:
    """Whole commands."""
    with tempfile.TemporaryDirectory() as folder:
        results = startup.measure(Path(folder), rounds)
    torch_alone = results["python -c 'import torch'"]
    print("| whole command | seconds | relative to `import torch` | peak memory, MB |\n|---|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result.median:.2f} | {ratio(result, torch_alone):.2f} | {result.peak_mb:.0f} |")
    return {name: asdict(result) for name, result in results.items()}


def remember(rounds: int, output: Path) -> dict:
    """The most memory that a run ever has, after few steps and after many."""
    found = {}
    print("| `fit`, steps | peak memory, MB |\n|---|---|")
    for steps in MEMORY_STEPS:
        with tempfile.TemporaryDirectory() as folder:
            found[f"{steps} steps"] = startup.train(Path(folder), steps)
        print(f"| {steps:,} | {found[f'{steps} steps']:.0f} |", flush=True)
    return found


def grow(rounds: int, output: Path) -> dict:
    """Larger models, contexts and batches."""
    results = growth.measure(max(rounds // 2, 1))
    growth.plot(results, output / "growth.png")
    print("| training | ours, ms a step | Hugging Face, ms a step | ratio |\n|---|---|---|---|")
    for sweep, points in growth.SWEEPS.items():
        for place in (growth.at(sweep, sizes) for sizes in points):
            ours, theirs = (results[sweep][f"{name} at {place}"] for name in ("ours", "Hugging Face"))
            times = f"{1e3 * ours.median:.1f} | {1e3 * theirs.median:.1f} | {ratio(theirs, ours):.1f}"
            print(f"| {place:,} {sweep} | {times} |")
    return {sweep: {name: asdict(result) for name, result in found.items()} for sweep, found in results.items()}


def ratio(one: Result, other: Result) -> float:
    """The median, over the turns, of how many times as long one takes as the other."""
    return median(mine / yours for mine, yours in zip(one.seconds, other.seconds, strict=True))


if __name__ == "__main__":
    main()
