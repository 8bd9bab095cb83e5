"""How the time of a step grows with the model, the context and the batch."""

from dataclasses import replace
from pathlib import Path

import training
from sizes import Sizes
from workers import Entry, Result, race

TOKENS = 2048  # in a batch, where the context grows
SWEEPS = {
    "parameters": [Sizes(embed_dim=C, num_layers=L) for C, L in ((128, 2), (192, 4), (256, 6), (320, 8))],
    "context length": [Sizes(context_length=T, batch_size=TOKENS // T) for T in (64, 128, 256, 512, 1024)],
    "windows in a batch": [replace(Sizes(), batch_size=B) for B in (1, 4, 16, 64, 256)],
}


def measure(rounds: int) -> dict[str, dict[str, Result]]:
    """Race our loop against Hugging Face's GPT-2 at every size; by the sweep, then by size and contestant."""
    return {sweep: _sweep(sweep, sizes, rounds) for sweep, sizes in SWEEPS.items()}


def _sweep(sweep: str, points: list[Sizes], rounds: int) -> dict[str, Result]:
    results = {}
    for sizes in points:
        steps = max(1, round(30 * 420_000 * TOKENS / (parameters(sizes) * sizes.batch_size * sizes.context_length)))
        entries = {
            "ours": Entry(training.bare_loop, min(steps, 200), {"sizes": sizes}),
            "Hugging Face": Entry(training.huggingface, min(-(-steps // 3), 60), {"sizes": sizes, "bf16": False}),
        }
        results |= {f"{name} at {at(sweep, sizes)}": result for name, result in race(entries, rounds).items()}
    return results


def at(sweep: str, sizes: Sizes) -> int:
    """Where on the axis of a sweep a size lies."""
    return {"parameters": parameters(sizes), "context length": sizes.context_length}.get(sweep, sizes.batch_size)


def parameters(sizes: Sizes) -> int:
    """How many parameters our decoder has."""
    C = sizes.embed_dim
    return (2 * sizes.vocab_size + sizes.context_length) * C + sizes.num_layers * (12 * C**2 + 2 * C) + C


def plot(results: dict[str, dict[str, Result]], path: Path) -> None:
    """Draw tokens a second over each sweep, for both."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(13, 4), layout="constrained", sharey=True)
    for axis, (sweep, points) in zip(axes, SWEEPS.items(), strict=True):
        where = [at(sweep, sizes) for sizes in points]
        for name, style in (("ours", "o-"), ("Hugging Face", "s--")):
            times = [results[sweep][f"{name} at {place}"].median for place in where]
            tokens = [sizes.batch_size * sizes.context_length for sizes in points]
            label = {"ours": "ours", "Hugging Face": "Hugging Face GPT-2, eager float32"}[name]
            axis.loglog(where, [count / time for count, time in zip(tokens, times, strict=True)], style, label=label)
        axis.set_xticks(where, [f"{place / 1e6:.1f} M" if place > 1e5 else f"{place}" for place in where])
        axis.minorticks_off()
        axis.set_xlabel(sweep)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("training: characters a second")
    ticks = [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]
    axes[0].set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes[0].legend()
    figure.savefig(path, dpi=120)
