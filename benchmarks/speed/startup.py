"""Wall-clock time and peak memory of whole commands."""

import subprocess
import sys
from pathlib import Path

from workers import Result

PREDICT = ["-m", "minillm", "predict", "--prompt", "ROMEO:", "--max_new_tokens", "500"]
HUGGINGFACE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from generation import huggingface
from sizes import Sizes
huggingface(Sizes(), num_texts=1)(1)
"""
TIMER = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""  # a small process, because a child's peak memory includes that of its parent at the fork
COMMANDS = {
    "python -c 'import torch'": ["-c", "import torch"],
    "minillm --help": ["-m", "minillm", "--help"],
    "minillm predict --wrong": ["-m", "minillm", "predict", "--wrong"],
    "minillm fit --help": ["-m", "minillm", "fit", "--help"],
    "minillm fit --wrong": ["-m", "minillm", "fit", "--wrong"],
    "minillm predict, 500 characters": PREDICT,
    "minillm predict, 64 times 500 characters": [*PREDICT, "--num_samples", "64"],
    "minillm predict, 64 times 1,500 characters": [*PREDICT, "--num_samples", "64", "--max_new_tokens", "1500"],
    "a script with Hugging Face's generate, 500 characters": ["-c", HUGGINGFACE],
}


def measure(folder: Path, rounds: int) -> dict[str, Result]:
    """Time the commands in interleaved rounds, in a folder with a briefly trained model."""
    train(folder, 2)
    results = {name: Result([], 0.0) for name in COMMANDS}
    for number in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            seconds, results[name].peak_mb = timed(arguments, folder)
            if number:
                results[name].seconds.append(seconds)
        print(f"\r  round {number} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def train(folder: Path, steps: int) -> float:
    """Train the reference model and return its peak memory in MB."""
    return timed(["-m", "minillm", "fit", "--trainer.max_steps", str(steps)], folder)[1]


def timed(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run a Python command and return its wall-clock seconds and its peak memory in MB."""
    command = [sys.executable, "-c", TIMER, sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds, kilobytes = done.stdout.split()
    return float(seconds), int(kilobytes) / 1024
