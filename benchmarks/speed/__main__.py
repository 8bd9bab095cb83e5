"""Speed of training, generation and start-up compared with PyTorch and Hugging Face: tables, and all results as JSON.

    pip install -e ".[benchmarks]"
    python benchmarks/speed [--only training] [--rounds 7] [--output benchmarks/reference]

Workloads run in processes of their own and in interleaved rounds, so that changes in the speed of the machine affect
all of them. The tables have medians over the rounds, and medians of the ratios within a round.
"""

import argparse
import itertools
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import generation
import growth
import llama2c
import startup
import torch
import training
from sizes import GENERATION_SIZES, Sizes
from workers import Result, WorkloadSpec, run_interleaved

MEMORY_STEPS = (100, 1000)


def main() -> None:
    """Run the selected parts, print their tables and write speed.json and growth.png."""
    parts: dict[str, Callable[[int, Path], dict]] = {
        "training": measure_training,
        "generation": measure_generation,
        "startup": measure_startup,
        "memory": measure_memory,
        "growth": measure_growth,
    }
    parser = argparse.ArgumentParser(description="Measure speed compared with PyTorch and Hugging Face.")
    parser.add_argument("--only", choices=parts, action="append", help="part to run; may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="number of measured rounds")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/reference"), help="folder of JSON and plot")
    parser.add_argument("--llama2c", type=Path, help="program `run` of llama2.c (see llama2c.py)")
    options = parser.parse_args()
    parts["generation"] = partial(measure_generation, llama2c_program=options.llama2c and options.llama2c.absolute())
    file = options.output / "speed.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in options.only or parts:
        print(f"\n## {name}: {environment()}\n", flush=True)
        results[name] = {"where": environment(), "results": parts[name](options.rounds, options.output)}
        file.write_text(json.dumps(results, indent=1) + "\n")


def environment() -> str:
    """Return the machine, the torch version, the commit and the date."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    file = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", file.read_text()) if file.exists() else []
    processor = names[0] if names else platform.processor()
    machine = f"{os.cpu_count()} cores of {processor}"
    return f"{machine}, torch {torch.__version__}, commit {commit}, {datetime.now(UTC):%Y-%m-%d}"


def measure_training(rounds: int, output: Path) -> dict:
    """Time one optimizer step at the reference sizes."""
    arguments = {"sizes": Sizes()}
    specs = {
        "minillm fit": WorkloadSpec(training.fit, 120, arguments),
        "our model in a bare loop": WorkloadSpec(training.bare_loop, 120, arguments),
        "Hugging Face GPT-2, eager float32": WorkloadSpec(training.huggingface, 30, {**arguments, "bf16": False}),
        "Hugging Face GPT-2, eager, bf16 autocast": WorkloadSpec(training.huggingface, 40, {**arguments, "bf16": True}),
        "nn.TransformerEncoder, float32": WorkloadSpec(training.torch_encoder, 30, {**arguments, "bf16": False}),
        "nn.TransformerEncoder, bf16 autocast": WorkloadSpec(training.torch_encoder, 40, {**arguments, "bf16": True}),
        "floor: the matrix products alone": WorkloadSpec(training.floor, 120, arguments),
    }
    results = run_interleaved(specs, rounds)
    print("| training, a step of 32 x 64 characters | ms | time relative to fit | peak memory, MB |\n|---|---|---|---|")
    fit = results["minillm fit"]
    for name, result in results.items():
        print(f"| {name} | {1e3 * result.median:.1f} | {ratio(result, fit):.2f} | {result.peak_mb:.0f} |")
    return {name: asdict(result) for name, result in results.items()}


def measure_generation(rounds: int, output: Path, llama2c_program: Path | None = None) -> dict:
    """Time the generation of 500 characters after a prompt, for one text and for a batch of 64."""
    found = {}
    print("| generating 500 characters | characters per second | relative to Hugging Face |\n|---|---|---|")
    for (name, sizes), num_texts in itertools.product(GENERATION_SIZES.items(), (1, 64)):
        arguments = {"sizes": sizes, "num_texts": num_texts}
        specs = {
            "Hugging Face generate": WorkloadSpec(generation.huggingface, 1, arguments),
            "NumPy": WorkloadSpec(generation.ours, 3 if num_texts == 1 else 1, arguments),
            "PyTorch": WorkloadSpec(generation.ours_torch, 1, arguments),
        }
        if (name, num_texts) == ("gpu.yaml", 64):  # it copies its KV cache at every step, which takes minutes a round
            del specs["Hugging Face generate"]
        if llama2c_program is not None and num_texts == 1:
            specs["llama2.c"] = WorkloadSpec(llama2c.generate, 3, {"sizes": sizes, "program": llama2c_program})
        specs = {f"{name}, batch {num_texts}: {method}": spec for method, spec in specs.items()}
        results = run_interleaved(specs, rounds)
        theirs = next((result for method, result in results.items() if "Hugging Face" in method), None)
        for method, result in results.items():
            speed = num_texts * generation.NUM_NEW_CHARACTERS / result.median
            relative = f"{ratio(theirs, result):.1f}" if theirs else ""
            print(f"| {method} | {speed:,.0f} | {relative} |", flush=True)
        found |= {method: asdict(result) for method, result in results.items()}
    return found


def measure_startup(rounds: int, output: Path) -> dict:
    """Time whole commands."""
    with tempfile.TemporaryDirectory() as folder:
        results = startup.measure(Path(folder), rounds)
    torch_alone = results["python -c 'import torch'"]
    print("| whole command | seconds | relative to `import torch` | peak memory, MB |\n|---|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result.median:.2f} | {ratio(result, torch_alone):.2f} | {result.peak_mb:.0f} |")
    return {name: asdict(result) for name, result in results.items()}


def measure_memory(rounds: int, output: Path) -> dict:
    """Measure the peak memory of a short and of a longer training run."""
    found = {}
    print("| `fit`, steps | peak memory, MB |\n|---|---|")
    for steps in MEMORY_STEPS:
        with tempfile.TemporaryDirectory() as folder:
            found[f"{steps} steps"] = startup.train(Path(folder), steps)
        print(f"| {steps:,} | {found[f'{steps} steps']:.0f} |", flush=True)
    return found


def measure_growth(rounds: int, output: Path) -> dict:
    """Time training steps of larger models, contexts and batches."""
    results = growth.measure(max(rounds // 2, 1))
    growth.plot(results, output / "growth.png")
    print("| training | ours, ms per step | Hugging Face, ms per step | ratio |\n|---|---|---|---|")
    for sweep, points in growth.SWEEPS.items():
        for value in (growth.swept_value(sweep, sizes) for sizes in points):
            ours, theirs = (results[sweep][f"{name} at {value}"] for name in ("ours", "Hugging Face"))
            times = f"{1e3 * ours.median:.1f} | {1e3 * theirs.median:.1f} | {ratio(theirs, ours):.1f}"
            print(f"| {value:,} {sweep} | {times} |")
    return {sweep: {name: asdict(result) for name, result in found.items()} for sweep, found in results.items()}


def ratio(one: Result, other: Result) -> float:
    """Return the median over the rounds of the ratio of times within a round."""
    return median(mine / theirs for mine, theirs in zip(one.seconds, other.seconds, strict=True))


if __name__ == "__main__":
    main()
