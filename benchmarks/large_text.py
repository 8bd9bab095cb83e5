"""Train on a text of 1 GB and on one of 1 MB, turn about: seconds to prepare, milliseconds a step, memory.

    python benchmarks/large_text.py [--megabytes 1000] [--steps 300] [--rounds 3]

The texts are speeches of all the plays in random order, again and again. They and their tokens go to a temporary
folder, of about twice their size.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from minillm.data.corpus import load_text

CONFIG = Path(__file__).parent.parent / "configs" / "minillm.yaml"
ONCE = ("--trainer.limit_val_batches=2", "--trainer.val_check_interval=1000000", "--trainer.log_every_n_steps=20")


def write_text(file: Path, megabytes: int) -> None:
    """Speeches in random order, so many bytes of them."""
    speeches, left = load_text("shakespeare").split("\n\n"), megabytes * 10**6
    generator = random.Random(0)
    with file.open("wb") as out:
        while left > 0:
            generator.shuffle(speeches)
            content = ("\n\n".join(speeches) + "\n\n").encode()[:left]
            out.write(content)
            left -= len(content)


def fit(corpus: Path, steps: int, more: list[str]) -> tuple[float, float, float]:
    """Train once; returns seconds in all, milliseconds a step (the median), and the most memory it had, in MB."""
    words = [f"--data.corpus={corpus}", f"--trainer.max_steps={steps}", *ONCE, *more]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "minillm", "fit", "--config", str(CONFIG), *words]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        if status:
            sys.exit("training failed")
        with next(Path(folder).glob("lightning_logs/*/*/metrics.csv")).open() as file:
            rows = [row for row in csv.DictReader(file) if row["chars_per_second"]]
        characters = 32 * 64  # of a step, if a token is a character
        return (
            seconds,
            1000 * characters / median(float(row["chars_per_second"]) for row in rows),
            usage.ru_maxrss / 1024,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINILLM_CACHE"] = f"{folder}/cache"
        texts = {size: Path(folder, f"{size}.txt") for size in (1, options.megabytes)}
        for size, file in texts.items():
            write_text(file, size)
        first = {size: fit(file, 20, more)[0] for size, file in texts.items()}
        again = {size: fit(file, 20, more)[0] for size, file in texts.items()}
        runs = {size: [] for size in texts}
        for _ in range(options.rounds):
            for size, file in texts.items():
                runs[size].append(fit(file, options.steps, more)[1:])
        print("| text | first start | later starts | step | memory |\n|---|---|---|---|---|")
        for size in texts:
            step, memory = (median(run[number] for run in runs[size]) for number in (0, 1))
            print(f"| {size:,} MB | {first[size]:.0f} s | {again[size]:.0f} s | {step:.1f} ms | {memory:.0f} MB |")


if __name__ == "__main__":
    main()
