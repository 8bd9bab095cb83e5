"""Draw a run's loss curves and take its last attention maps out of TensorBoard's events (needs matplotlib).

python benchmarks/plot_run.py lightning_logs/minillm/version_0 benchmarks/reference
"""

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curve(rows: list[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    """The numbers of optimizer steps at which a metric was logged, counted from 1, and its values."""
    points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
    return [step for step, _ in points], [value for _, value in points]


def draw_losses(run: Path, picture: Path) -> None:
    """Plot training and validation loss over steps."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(*curve(rows, "train_loss"), color="#9ecae1", label="train_loss (one batch, with dropout)")
    steps, losses = curve(rows, "val_loss")
    axes.plot(steps, losses, "o-", color="#08306b", label="val_loss (whole validation text)")
    last = (steps[-1], losses[-1])
    axes.annotate(f"{losses[-1]:.2f}", last, textcoords="offset points", xytext=(8, 0), va="center")
    axes.set(xlabel="step", ylabel="loss, nats per character", xlim=(0, 1.1 * steps[-1]), ylim=(1.6, 3.2))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=110)


def main(run: Path, folder: Path) -> None:
    """Write loss.png and attention.png."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_losses(run, folder / "loss.png")
    events = EventAccumulator(str(run)).Reload()
    (folder / "attention.png").write_bytes(events.Images("attention")[-1].encoded_image_string)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
