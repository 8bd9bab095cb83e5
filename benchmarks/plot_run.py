"""Draw the loss curves of a run: python benchmarks/plot_run.py RUN_FOLDER PICTURE.png (needs matplotlib)."""

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt


def curve(rows: list[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    """The steps at which a metric was logged, and its values there."""
    points = [(int(row["step"]) + 1, float(row[name])) for row in rows if row[name]]
    return [step for step, _ in points], [value for _, value in points]


def main(run: Path, picture: Path) -> None:
    """Plot training and validation loss over steps."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(*curve(rows, "train_loss"), color="#9ecae1", label="train_loss (one batch, with dropout)")
    steps, losses = curve(rows, "val_loss")
    axes.plot(steps, losses, "o-", color="#08306b", label="val_loss (whole validation text)")
    axes.annotate(f"{losses[-1]:.3f}", (steps[-1], losses[-1]), textcoords="offset points", xytext=(-4, -14), ha="right")
    axes.set(xlabel="step", ylabel="nats a character", ylim=(1.6, 3.2))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
