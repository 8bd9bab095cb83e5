"""Cumulative ablation: add the parts of the best-small recipe to the reference one by one, and measure val_loss.

    python benchmarks/ladder.py [--seeds 1337 1338 1339] [--side_by_side 2] [--output benchmarks/reference/ladder.json]

Every run is a `minillm fit` of its own and trains on 4,000 x 32 x 64 characters. Other recipes change a part of one.
Finished runs are recorded in the output file and not repeated, so the script can be stopped and resumed.
It prints means and standard deviations and draws a plot; with `--seeds 1337` and the recorded file it does only that.
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

RUNGS: list[tuple[str, Flags]] = [  # cumulative: each adds its flags to those of all before it
    ("reference", {}),
    ("no dropout", {"model.dropout": 0.0}),
    (
        "AdamW at 3e-3, beta2 0.95, warmup, linear decay",
        {"model.learning_rate": 3e-3, "model.warmup_steps": 100, "model.schedule": "linear", "model.beta2": 0.95},
    ),
    ("rotary positions", {"model.position": "rotary"}),
    ("token shift", {"model.token_shift": True}),
    ("QK-norm", {"model.query_key_norm": True}),
    ("SwiGLU", {"model.activation": "swiglu"}),
    ("zero initialization of branches and head", {"model.zero_init": True}),
    (
        "Muon without weight decay",
        {
            **{"model.optimizer": "muon", "model.muon_learning_rate": 0.02, "model.learning_rate": 8e-3},
            **{"model.warmup_steps": 10, "model.weight_decay": 0.0},
        },
    ),
    ("weight decay 0.2", {"model.weight_decay": 0.2}),
    ("shuffled windows", {"data.sampling": "shuffled"}),
    (
        "QK-norm per channel, more regularization",
        {
            **{"model.query_key_scale": "channel", "model.weight_decay": 0.5, "model.muon_weight_decay": 0.2},
            **{"model.muon_learning_rate": 0.016},
            **{"model.average_last_steps": 400, "model.case_sharing": True, "model.multi_token_weight": 0.3},
        },
    ),
]
DETOURS: list[tuple[str, str, Flags]] = [  # each changes these flags of a rung
    ("learned positions", "shuffled windows", {"model.position": "learned"}),
    ("default initialization", "shuffled windows", {"model.zero_init": False}),
    ("portable.yaml: no token shift", RUNGS[-1][0], {"model.token_shift": False}),
]


def recipes() -> dict[str, Flags]:
    """Return the flags of every recipe by name."""
    found, flags = {}, {}
    for name, more in RUNGS:
        flags = flags | more
        found[name] = flags
    return found | {name: found[rung] | more for name, rung, more in DETOURS}


def fit(flags: Flags, seed: int, threads: int) -> dict[str, float]:
    """Train once; return the last val_loss and the training time in seconds, without start-up and validation."""
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
    """Train what is not recorded yet: first the rungs, all with one seed before the next seed."""
    results: Results = json.loads(output.read_text()) if output.exists() else {}
    threads = max((os.cpu_count() or 1) // side_by_side, 1)

    with ThreadPoolExecutor(side_by_side) as pool:
        runs = {
            pool.submit(fit, recipes()[name], seed, threads): (name, seed)
            for part in (RUNGS, DETOURS)
            for seed in seeds
            for name, *_ in part
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
    """Return the mean and the standard deviation of val_loss over the seeds, and the mean training time in seconds."""
    losses = [run["val_loss"] for run in results[name].values()]
    return (
        mean(losses),
        stdev(losses) if len(losses) > 1 else math.nan,
        mean(r["seconds"] for r in results[name].values()),
    )


def print_table(results: Results) -> None:
    print("| configuration, cumulative | `val_loss` | spread | change | bits per character | seconds |")
    print("|---|---|---|---|---|---|")
    rungs = [name for name, _ in RUNGS]
    pairs = [*zip(rungs, rungs[:1] + rungs, strict=False), *((name, rung) for name, rung, _ in DETOURS)]
    for number, (name, before) in enumerate(pairs):
        loss, spread, seconds = summary(results, name)
        same = results[name].keys() & results[before].keys()  # a detour may have fewer seeds
        changes = [results[name][seed]["val_loss"] - results[before][seed]["val_loss"] for seed in same]
        cells = (f"{loss:.4f}", f"{spread:.4f}" if spread == spread else "", f"{mean(changes):+.4f}" if number else "")
        print(f"| {name} | {' | '.join(cells)} | {loss / math.log(2):.3f} | {seconds:.0f} |")


def draw(results: Results, picture: Path) -> None:
    """Dot plot: val_loss of every seed, and a line through the means; the axis does not begin at 0."""
    names = [name for name, _ in RUNGS]
    heights = range(len(names))
    losses = [[run["val_loss"] for run in results[name].values()] for name in names]
    means = [mean(values) for values in losses]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1), layout="constrained")
    axes.plot(means, heights, "o-", color="#08306b", linewidth=1, markersize=6, label="mean of the seeds")
    for height, values in zip(heights, losses, strict=True):
        label = "one seed" if height == 0 else None
        axes.plot(values, [height] * len(values), "|", color="#e6550d", markersize=12, label=label)
        axes.text(1.01, height, f"{means[height]:.3f}", transform=axes.get_yaxis_transform(), va="center")
    axes.set(yticks=heights, yticklabels=names, xlabel="val_loss, nats per character")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--side_by_side", type=int, default=2, help="number of concurrent runs, which share the cores")
    parser.add_argument("--output", type=Path, default=HERE / "reference" / "ladder.json")
    options = parser.parse_args()
    results = climb(options.seeds, options.side_by_side, options.output)
    print_table(results)
    draw(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
