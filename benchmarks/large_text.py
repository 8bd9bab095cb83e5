"""Training on a text of 1 GB compared with 1 MB, interleaved: start-up time, time per step and peak memory.

    python benchmarks/large_text.py [--megabytes 1000] [--steps 300] [--rounds 3]

The texts are all speeches of the plays, shuffled and repeated. They and their token ids are stored in a temporary
folder and take about twice the size of the texts.
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
FLAGS = ("--trainer.limit_val_batches=2", "--trainer.val_check_interval=1000000", "--trainer.log_every_n_steps=20")


def write_text(file: Path, megabytes: int) -> None:
    """Write shuffled speeches up to a size, reshuffled for each repetition."""
    speeches, bytes_left = load_text("shakespeare").split("\n\n"), megabytes * 10**6
    generator = random.Random(0)
    with file.open("wb") as out:
        while bytes_left > 0:
            generator.shuffle(speeches)
            content = ("\n\n".join(speeches) + "\n\n").encode()[:bytes_left]
            out.write(content)
            bytes_left -= len(content)


def fit(corpus: Path, steps: int, extra_flags: list[str]) -> tuple[float, float, float]:
    """Train once; return the total seconds, the median milliseconds per step and the peak memory in MB."""
    flags = [f"--data.corpus={corpus}", f"--trainer.max_steps={steps}", *FLAGS, *extra_flags]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-m", "minillm", "fit", "--config", str(CONFIG), *flags]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            sys.exit("training failed")
        with next(Path(folder).glob("lightning_logs/*/*/metrics.csv")).open() as file:
            rows = [row for row in csv.DictReader(file) if row["chars_per_second"]]
        characters_per_step = 32 * 64  # with one token per character
        return (
            seconds,
            1000 * characters_per_step / median(float(row["chars_per_second"]) for row in rows),
            usage.ru_maxrss / 1024,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options, extra_flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINILLM_CACHE"] = f"{folder}/cache"
        texts = {size: Path(folder, f"{size}.txt") for size in (1, options.megabytes)}
        for size, file in texts.items():
            write_text(file, size)
        first_start = {size: fit(file, 20, extra_flags)[0] for size, file in texts.items()}
        later_start = {size: fit(file, 20, extra_flags)[0] for size, file in texts.items()}
        runs = {size: [] for size in texts}
        for _ in range(options.rounds):
            for size, file in texts.items():
                runs[size].append(fit(file, options.steps, extra_flags)[1:])
        print("| text | first start | later starts | step | memory |\n|---|---|---|---|---|")
        for size in texts:
            step, memory = (median(values) for values in zip(*runs[size], strict=True))
            starts = f"{first_start[size]:.0f} s | {later_start[size]:.0f} s"
            print(f"| {size:,} MB | {starts} | {step:.1f} ms | {memory:.0f} MB |")


if __name__ == "__main__":
    main()
