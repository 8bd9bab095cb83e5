"""Train the reference on different numbers of processes and accumulated batches, and compare the losses.

    python benchmarks/partition.py [--steps 200]

Without dropout and in float32, all of them are the same training up to the rounding of sums. The last row shows the
effect of rounding alone: one process with another number of threads.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "configs" / "minillm.yaml"
PARTITIONS = ((1, 1, 1), (2, 1, 1), (4, 1, 1), (1, 2, 1), (1, 4, 1), (2, 2, 1), (1, 1, 2))  # the last is threads
BATCH_SIZE = 32


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the losses of runs on several processes.")
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        losses = [train(folder, *partition, steps) for partition in PARTITIONS]
    print("| processes x batches x windows | threads | last `train_loss` | `val_loss` | largest difference |")
    print("|---|---|---|---|---|")
    for (num_processes, num_batches, num_threads), (train_losses, val_loss) in zip(PARTITIONS, losses, strict=True):
        differences = [abs(one - other) for one, other in zip(train_losses, losses[0][0], strict=True)]
        parts = f"{num_processes} x {num_batches} x {BATCH_SIZE // num_processes // num_batches}"
        largest = f"{max(differences[: steps // 4]):.0e}, {max(differences):.0e}"
        print(f"| {parts} | {num_threads} | {train_losses[-1]:.5f} | {val_loss:.5f} | {largest} |")
    print(f"(of `train_loss`, in the first {steps // 4} steps and in all)")


def train(folder: str, num_processes: int, num_batches: int, num_threads: int, steps: int) -> tuple[list[float], float]:
    """Train once, and return the loss of every step and the final val_loss."""
    name = f"{num_processes}x{num_batches}x{num_threads}"
    flags = {
        "name": name,
        "data.batch_size": BATCH_SIZE,
        "model.dropout": 0,
        "trainer.precision": "32-true",
        "trainer.accelerator": "cpu",
        "trainer.strategy": "ddp" if num_processes > 1 else "auto",
        "trainer.devices": num_processes,
        "trainer.accumulate_grad_batches": num_batches,
        "trainer.max_steps": steps,
        "trainer.log_every_n_steps": 1,
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    command = [sys.executable, "-m", "minillm", "fit", "--config", str(CONFIG), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    with Path(folder, "lightning_logs", name, "version_0", "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    train_losses, val_losses = (
        [float(row[f"{split}_loss"]) for row in rows if row[f"{split}_loss"]] for split in ("train", "val")
    )
    return train_losses, val_losses[-1]


if __name__ == "__main__":
    main()
