"""Kill a training with SIGKILL again and again, resume it each time, and compare with one that was left alone.

    python benchmarks/kill.py [--kills 25] [--seed 1]

Every other kill waits for a save and comes while the file is being written; the others come at random moments, start-up
included. In the end weights, optimizer, random states, curves and samples have to be those of the run left alone, and
no kill may have cost more steps than lie between two saves.
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
EVERY = 20  # steps between two saves
STEPS = 3000
FIT = [
    *(sys.executable, "-m", "minillm", "fit", "--config", str(CONFIG), "--trainer.max_steps", str(STEPS)),
    *("--model.embed_dim", "64", "--model.num_layers", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.val_check_interval", "100", "--checkpoints.every_n_train_steps", str(EVERY)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a training again and again; compare it with one left alone.")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        for place in (alone, killed):
            place.mkdir()
        subprocess.run(FIT, cwd=alone, check=True, stdout=subprocess.DEVNULL)
        draws = random.Random(options.seed)
        print("| kill | moment | newest row | kept | lost |\n|---|---|---|---|---|")
        lost = [kill(killed, number, draws) for number in range(1, options.kills + 1)]
        subprocess.run(command(killed), cwd=killed, check=True, stdout=subprocess.DEVNULL)
        report(alone, killed, lost)


def command(place: Path) -> list[str]:
    """How to begin, or to go on with what there is."""
    return [*FIT, "--ckpt_path", "last"] if list(place.glob("**/*.ckpt")) else FIT


def kill(place: Path, number: int, draws: random.Random) -> int:
    """Train until a moment comes, kill, and return how many steps have to be done again."""
    before, started = kept_step(place), time.time()
    process = subprocess.Popen(command(place), cwd=place, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    in_save = number % 2 == 0
    if in_save:
        while process.poll() is None and kept_step(place) < before + draws.choice([EVERY, 2 * EVERY, 3 * EVERY]):
            time.sleep(0.01)
        while process.poll() is None and not staged(place, started):
            pass
    else:
        time.sleep(draws.uniform(0, 8))
    assert process.poll() is None, "the run ended before it could be killed: give fewer kills"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    in_save = bool(staged(place, started))
    newest, kept = newest_row(place), kept_step(place)
    began = any("parameters" in line for line in process.stdout)
    moment = "inside a save" if in_save else "training" if began else "start-up"
    print(f"| {number} | {moment} | {newest} | {kept} | {max(newest - kept, 0)} |", flush=True)
    return max(newest - kept, 0)


def staged(place: Path, since: float) -> bool:
    """Whether a checkpoint is being written, by a process that began at that time."""
    parts = place.glob("lightning_logs/smoke/version_*/checkpoints/.*.part")
    with suppress(FileNotFoundError):  # finished in between
        return any(part.stat().st_mtime >= since for part in parts)
    return False


def kept_step(place: Path) -> int:
    """The step of the newest checkpoint, which has to be whole."""
    files = sorted(
        place.glob("lightning_logs/smoke/version_*/checkpoints/*.ckpt"), key=lambda file: file.stat().st_mtime_ns
    )
    return torch.load(files[-1], weights_only=True)["global_step"] if files else 0


def rows(place: Path) -> list[dict[str, str]]:
    """metrics.csv, but for the column that is about the day."""
    tables = sorted(place.glob("lightning_logs/smoke/version_*/metrics.csv"))
    if not tables:
        return []
    with tables[-1].open() as file:
        return [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]


def newest_row(place: Path) -> int:
    return max((int(row["step"]) for row in rows(place)), default=0)


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are the same, to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return one == other


def report(alone: Path, killed: Path, lost: list[int]) -> None:
    (run,) = (alone / "lightning_logs" / "smoke").iterdir()
    survivor = max((killed / "lightning_logs" / "smoke").iterdir())
    results = {
        f"{file} is the same": same(*(torch.load(r / "checkpoints" / file, weights_only=True) for r in (run, survivor)))
        for file in ("last.ckpt", "best.ckpt")
    }
    results["metrics.csv is the same"] = rows(alone) == rows(killed)
    results["samples.md is the same"] = (run / "samples.md").read_bytes() == (survivor / "samples.md").read_bytes()
    results[f"lost at most {EVERY} steps a kill (most: {max(lost)})"] = max(lost) <= EVERY
    print(
        f"\n{len(lost)} kills, {STEPS} steps:",
        *(f"- {what}: {'yes' if good else 'NO'}" for what, good in results.items()),
        sep="\n",
    )
    sys.exit(0 if all(results.values()) else 1)


if __name__ == "__main__":
    main()
