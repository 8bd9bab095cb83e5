"""Crash test: kill a training run repeatedly with SIGKILL, resume it, and compare it with an uninterrupted run.

    python benchmarks/kill.py [--kills 25] [--seed 1] [--accumulate 1]

Every other kill happens while a checkpoint is being written, the others at random moments, start-up included. Weights,
optimizer, random states, metrics and samples must equal those of the uninterrupted run at the end, and no kill may cost
more steps than there are between two saves.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

CONFIG = Path(__file__).parent.parent / "configs" / "smoke.yaml"
SAVE_INTERVAL = 20  # steps
NUM_STEPS = 3000
FIT = [
    *(sys.executable, "-m", "minillm", "fit", "--config", str(CONFIG), "--trainer.max_steps", str(NUM_STEPS)),
    *("--model.embed_dim", "64", "--model.num_layers", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.val_check_interval", "100", "--checkpoints.every_n_train_steps", str(SAVE_INTERVAL)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill and resume a run; compare it with an uninterrupted one.")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=1, help="batches of a step")
    options = parser.parse_args()
    FIT.extend(["--trainer.accumulate_grad_batches", str(options.accumulate)])
    FIT.extend(["--data.batch_size", str(8 * options.accumulate)])
    with tempfile.TemporaryDirectory() as folder:
        uninterrupted, killed = Path(folder, "uninterrupted"), Path(folder, "killed")
        for workdir in (uninterrupted, killed):
            workdir.mkdir()
        subprocess.run(FIT, cwd=uninterrupted, check=True, stdout=subprocess.DEVNULL)
        generator = random.Random(options.seed)
        print("| kill | moment | last logged step | last saved step | steps to repeat |\n|---|---|---|---|---|")
        lost_steps = [kill(killed, number, generator) for number in range(1, options.kills + 1)]
        subprocess.run(command(killed), cwd=killed, check=True, stdout=subprocess.DEVNULL)
        report(uninterrupted, killed, lost_steps)


def command(workdir: Path) -> list[str]:
    """Return the command that starts the run, or resumes it if there is a checkpoint."""
    return [*FIT, "--ckpt_path", "last"] if list(workdir.glob("**/*.ckpt")) else FIT


def kill(workdir: Path, number: int, generator: random.Random) -> int:
    """Train, kill the process, and return the number of steps to repeat."""
    before, started = saved_step(workdir), time.time()
    process = subprocess.Popen(command(workdir), cwd=workdir, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    in_save = number % 2 == 0
    if in_save:
        while process.poll() is None and saved_step(workdir) < before + SAVE_INTERVAL * generator.choice([1, 2, 3]):
            time.sleep(0.01)
        while process.poll() is None and not is_saving(workdir, started):
            pass
    else:
        time.sleep(generator.uniform(0, 8))
    assert process.poll() is None, "the run ended before it could be killed: reduce --kills"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    in_save = is_saving(workdir, started)
    logged, saved = logged_step(workdir), saved_step(workdir)
    has_started = any("parameters" in line for line in process.stdout)
    moment = "checkpoint write" if in_save else "training" if has_started else "start-up"
    print(f"| {number} | {moment} | {logged} | {saved} | {max(logged - saved, 0)} |", flush=True)
    return max(logged - saved, 0)


def is_saving(workdir: Path, since: float) -> bool:
    """Return whether there is a partly written checkpoint of the process that started at this time."""
    parts = workdir.glob("lightning_logs/smoke/version_*/checkpoints/.*.part")
    with suppress(FileNotFoundError):  # renamed in the meantime
        return any(part.stat().st_mtime >= since for part in parts)
    return False


def saved_step(workdir: Path) -> int:
    """Return the step of the newest checkpoint; fail if it is incomplete."""
    files = sorted(
        workdir.glob("lightning_logs/smoke/version_*/checkpoints/*.ckpt"), key=lambda file: file.stat().st_mtime_ns
    )
    return torch.load(files[-1], weights_only=True)["global_step"] if files else 0


def metrics(run: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv without the throughput, which varies from run to run."""
    if not (run / "metrics.csv").exists():
        return []
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]


def logged_step(workdir: Path) -> int:
    """Return the last step in metrics.csv of the newest run."""
    runs = sorted(workdir.glob("lightning_logs/smoke/version_*"))
    return max((int(row["step"]) for row in metrics(runs[-1])), default=0) if runs else 0


def equal(one: Any, other: Any) -> bool:
    """Return whether two nested values are bitwise equal."""
    if isinstance(one, torch.Tensor):
        return one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(*pair) for pair in zip(one, other, strict=True))
    return one == other


def report(uninterrupted: Path, killed: Path, lost_steps: list[int]) -> None:
    (expected,) = (uninterrupted / "lightning_logs" / "smoke").iterdir()
    resumed = max((killed / "lightning_logs" / "smoke").iterdir())
    print(f"\n{len(lost_steps)} kills, {NUM_STEPS} steps:")
    maximum = max(lost_steps)
    few_repeated = maximum <= SAVE_INTERVAL
    print(f"- at most {SAVE_INTERVAL} steps repeated per kill (maximum: {maximum}): {'yes' if few_repeated else 'NO'}")
    sys.exit(0 if compare(expected, resumed) and few_repeated else 1)


def compare(expected: Path, resumed: Path) -> bool:
    """Print which files of two runs are equal; return whether all are."""
    results = {
        file: equal(*(torch.load(run / "checkpoints" / file, weights_only=True) for run in (expected, resumed)))
        for file in ("last.ckpt", "best.ckpt")
    }
    results["metrics.csv"] = metrics(expected) == metrics(resumed)
    results["samples.md"] = (expected / "samples.md").read_bytes() == (resumed / "samples.md").read_bytes()
    for file, is_equal in results.items():
        print(f"- {file} is equal: {'yes' if is_equal else 'NO'}")
    return all(results.values())


if __name__ == "__main__":
    main()
