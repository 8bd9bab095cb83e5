"""Scaling of the training step time with the number of parameters, the context length and the batch size."""

from dataclasses import replace
from pathlib import Path

import training
from sizes import Sizes
from workers import Result, WorkloadSpec, run_interleaved

TOKENS_PER_BATCH = 2048  # for every context length, and at the default batch size
SWEEPS = {
    "parameters": [Sizes(embed_dim=C, num_layers=L) for C, L in ((128, 2), (192, 4), (256, 6), (320, 8))],
    "context length": [Sizes(context_length=T, batch_size=TOKENS_PER_BATCH // T) for T in (64, 128, 256, 512, 1024)],
    "windows in a batch": [replace(Sizes(), batch_size=B) for B in (1, 4, 16, 64, 256)],
}


def measure(rounds: int) -> dict[str, dict[str, Result]]:
    """Time our loop and Hugging Face's GPT-2 at every size; return the results by sweep, then by workload and size."""
    return {sweep: _sweep(sweep, sizes, rounds) for sweep, sizes in SWEEPS.items()}


def _sweep(sweep: str, points: list[Sizes], rounds: int) -> dict[str, Result]:
    results = {}
    for sizes in points:
        cost = num_parameters(sizes) * sizes.batch_size * sizes.context_length
        steps = max(1, round(30 * 420_000 * TOKENS_PER_BATCH / cost))  # 30 at the reference sizes
        arguments = {"sizes": sizes, "bf16": False}
        specs = {
            "ours": WorkloadSpec(training.bare_loop, min(steps, 200), {"sizes": sizes}),
            "Hugging Face": WorkloadSpec(training.huggingface, min(-(-steps // 3), 60), arguments),
        }
        value = swept_value(sweep, sizes)
        results |= {f"{name} at {value}": result for name, result in run_interleaved(specs, rounds).items()}
    return results


def swept_value(sweep: str, sizes: Sizes) -> int:
    """Return the value of the swept quantity."""
    return {"parameters": num_parameters(sizes), "context length": sizes.context_length}.get(sweep, sizes.batch_size)


def num_parameters(sizes: Sizes) -> int:
    """Return the number of parameters of our decoder."""
    C = sizes.embed_dim
    return (2 * sizes.vocab_size + sizes.context_length) * C + sizes.num_layers * (12 * C**2 + 2 * C) + C


def plot(results: dict[str, dict[str, Result]], path: Path) -> None:
    """Plot the throughput of both workloads over each sweep."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(13, 4), layout="constrained", sharey=True)
    for axis, (sweep, points) in zip(axes, SWEEPS.items(), strict=True):
        values = [swept_value(sweep, sizes) for sizes in points]
        for name, style in (("ours", "o-"), ("Hugging Face", "s--")):
            times = [results[sweep][f"{name} at {value}"].median for value in values]
            tokens = [sizes.batch_size * sizes.context_length for sizes in points]
            label = {"ours": "ours", "Hugging Face": "Hugging Face GPT-2, eager float32"}[name]
            axis.loglog(values, [count / time for count, time in zip(tokens, times, strict=True)], style, label=label)
        axis.set_xticks(values, [f"{value / 1e6:.1f} M" if value > 1e5 else f"{value}" for value in values])
        axis.minorticks_off()
        axis.set_xlabel(sweep)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("training: characters per second")
    ticks = [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]
    axes[0].set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes[0].legend()
    figure.savefig(path, dpi=120)
