"""Climb from the reference recipe to the best small one, a part a rung, and see what each part gives.

    python benchmarks/ladder.py [--seeds 1337 1338 1339] [--side_by_side 2] [--output benchmarks/reference/ladder.json]

Every run is a `minillm fit` of its own, and all see 4,000 x 32 x 64 characters. After the rungs come detours: the best
recipe with one thing otherwise. Runs are recorded as they finish, and those that are recorded are not done again; so it
can be stopped and gone on with. Prints mean and spread of val_loss, bits a character and seconds, and draws them.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt
import yaml

from minillm.files import write_atomically

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "minillm.yaml"
Flags = dict[str, Any]
Results = dict[str, dict[str, dict[str, float]]]  # by name and seed

RUNGS: list[tuple[str, Flags]] = [  # each with the flags that it adds to those of all before it
    ("reference", {}),
    ("no dropout", {"model.dropout": 0.0}),
    (
        "ten times the learning rate, warm-up, linear fall",
        {"model.learning_rate": 3e-3, "model.warmup_steps": 100, "model.schedule": "linear", "model.beta2": 0.95},
    ),
    ("rotary positions", {"model.position": "rotary"}),
    ("token shift", {"model.token_shift": True}),
    ("normalized queries and keys", {"model.query_key_norm": True}),
    ("SwiGLU", {"model.activation": "swiglu"}),
    ("branches and head begin at zero", {"model.zero_init": True}),
    (
        "Muon",
        {
            **{"model.optimizer": "muon", "model.muon_learning_rate": 0.02, "model.learning_rate": 8e-3},
            **{"model.warmup_steps": 10, "model.weight_decay": 0.0},
        },
    ),
    ("weight decay", {"model.weight_decay": 0.2}),
    ("windows without repetition", {"data.sampling": "shuffled"}),
]
DETOURS: list[tuple[str, Flags]] = [  # each with the flags that differ from those of the last rung
    ("learned positions", {"model.position": "learned"}),
    ("branches and head begin as usual", {"model.zero_init": False}),
]


def recipes() -> dict[str, Flags]:
    """The flags of every recipe, by its name."""
    found, flags = {}, {}
    for name, more in RUNGS:
        flags = flags | more
        found[name] = flags
    return found | {name: flags | more for name, more in DETOURS}


def fit(flags: Flags, seed: int, threads: int) -> dict[str, float]:
    """Train once; returns the last val_loss and how long training took, in seconds, without start-up and validation."""
    once = {"trainer.val_check_interval": 10**6, "checkpoints.every_n_train_steps": 10**6, "seed_everything": seed}
    words = [f"--{name}={value}" for name, value in {**flags, **once}.items()]
    command = [sys.executable, "-m", "minillm", "fit", "--config", str(CONFIG), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        (run,) = Path(folder).glob("lightning_logs/*/version_0")
        with (run / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        settings = yaml.safe_load((run / "config.yaml").read_text())
    losses = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    speeds = [float(row["chars_per_second"]) for row in rows if row["chars_per_second"]]
    steps = (
        settings["trainer"]["log_every_n_steps"] * settings["data"]["batch_size"] * settings["data"]["context_length"]
    )
    return {"val_loss": losses[-1], "seconds": sum(steps / speed for speed in speeds)}


def climb(seeds: list[int], side_by_side: int, output: Path) -> Results:
    """Do the runs that are not recorded yet: first the rungs, all with one seed before the next."""
    results: Results = json.loads(output.read_text()) if output.exists() else {}
    threads = max((os.cpu_count() or 1) // side_by_side, 1)

    with ThreadPoolExecutor(side_by_side) as pool:
        runs = {
            pool.submit(fit, recipes()[name], seed, threads): (name, seed)
            for part in (RUNGS, DETOURS)
            for seed in seeds
            for name, _ in part
            if str(seed) not in results.get(name, {})
        }
        for done in as_completed(runs):
            (name, seed), result = runs[done], done.result()
            results.setdefault(name, {})[str(seed)] = result
            write_atomically(output, json.dumps(results, indent=1).encode())
            print(
                f"{name}, seed {seed}: {result['val_loss']:.4f} in {result['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return results


def summary(results: Results, name: str) -> tuple[float, float, float]:
    """Mean and spread (standard deviation) of val_loss over the seeds, and the mean of the seconds."""
    losses = [run["val_loss"] for run in results[name].values()]
    return (
        mean(losses),
        stdev(losses) if len(losses) > 1 else math.nan,
        mean(r["seconds"] for r in results[name].values()),
    )


def print_table(results: Results) -> None:
    print("| | `val_loss` | spread | step | bits a character | seconds |\n|---|---|---|---|---|---|")
    names, last = [name for name, _ in RUNGS + DETOURS], RUNGS[-1][0]
    for number, name in enumerate(names):
        loss, spread, seconds = summary(results, name)
        before = names[number - 1] if number < len(RUNGS) else last
        same = results[name].keys() & results[before].keys()  # a detour may have fewer seeds
        steps = [results[name][seed]["val_loss"] - results[before][seed]["val_loss"] for seed in same]
        cells = (f"{loss:.4f}", f"{spread:.4f}" if spread == spread else "", f"{mean(steps):+.4f}" if number else "")
        print(f"| {name} | {' | '.join(cells)} | {loss / math.log(2):.3f} | {seconds:.0f} |")


def draw(results: Results, picture: Path) -> None:
    """The rungs as steps down, with every seed as a dot."""
    names = [name for name, _ in RUNGS]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1), layout="constrained")
    for height, name in enumerate(reversed(names)):
        losses = [run["val_loss"] for run in results[name].values()]
        axes.barh(height, mean(losses), color="#9ecae1")
        axes.plot(losses, [height] * len(losses), ".", color="#08306b", markersize=4)
        axes.annotate(f"{mean(losses):.3f}", (max(losses), height), (6, 0), textcoords="offset points", va="center")
    axes.set(yticks=range(len(names)), yticklabels=reversed(names), xlabel="val_loss, nats a character")
    lowest, highest = (f(run["val_loss"] for n in names for run in results[n].values()) for f in (min, max))
    axes.set_xlim(lowest - 0.05, highest + 0.04)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--side_by_side", type=int, default=2, help="runs at a time, which share the cores")
    parser.add_argument("--output", type=Path, default=HERE / "reference" / "ladder.json")
    options = parser.parse_args()
    results = climb(options.seeds, options.side_by_side, options.output)
    print_table(results)
    draw(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
