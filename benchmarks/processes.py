"""Cost model of data-parallel training, checked against 1, 2 and 4 processes on this machine.

    python benchmarks/processes.py [--rounds 5]

A step of N processes takes the time that one process needs for its part of the windows, and then the time to sum the
gradients, a ring all-reduce: latency + 2 (N - 1) / N x bytes / bandwidth. Both are measured without the other; their
sum is compared with steps of DistributedDataParallel and of `minillm fit`. The second table applies the model to GPUs.
"""

import argparse
import csv
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from minillm.config import ModelConfig
from minillm.model import Decoder
from minillm.training.hardware import fastest_precision, keep_freed_memory
from minillm.training.optimizer import adamw

BATCH_SIZE, CONFIG = 32, ModelConfig(vocab_size=65, context_length=64)
MEASUREMENTS = ("part", "all-reduce", "DDP", "fit")
FLOPS, UTILIZATION = 989e12, 0.35  # H100, dense bf16; fraction that a training step reaches
NVLINK, INFINIBAND = 300e9, 40e9  # bytes per second that an all-reduce moves per GPU, within and between machines
MODELS = {"gpu.yaml": 10.7e6, "GPT-2 small": 124e6, "GPT-2 XL": 1.56e9}  # parameters
TOKENS_PER_GPU = 64 * 256


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a cost model with processes on this machine.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = range(parser.parse_args().rounds)
    cases = {(1, 2): [], (1, 1): [], (2, 1): [], (4, 1): []}  # processes, threads of each -> results
    for _ in rounds:
        for (num_processes, num_threads), results in cases.items():
            results.append({name: measure(name, num_processes, num_threads) for name in MEASUREMENTS})
    print("| processes x threads | windows of each | part | all-reduce | sum | DDP | `fit` |")
    print("|---|---|---|---|---|---|---|")
    for (num_processes, num_threads), results in cases.items():
        part, all_reduce, ddp, fit = (median(result[name] for result in results) for name in MEASUREMENTS)
        times = " | ".join(f"{value:.1f} ms" for value in (part, all_reduce, part + all_reduce, ddp, fit))
        print(f"| {num_processes} x {num_threads} | {BATCH_SIZE // num_processes} | {times} |")
    print_plan()


def print_plan() -> None:
    """Print the model's step times for GPUs, with the same number of tokens per GPU."""
    print("\n| parameters | compute | gradients | all-reduce, 8 GPUs | efficiency | 64 x 8 GPUs | efficiency |")
    print("|---|---|---|---|---|---|---|")
    for name, num_parameters in MODELS.items():
        compute = 6 * num_parameters * TOKENS_PER_GPU / (FLOPS * UTILIZATION)
        gradients = 4 * num_parameters  # float32
        cells = [f"{1000 * compute:.1f} ms", f"{gradients / 1e6:,.0f} MB"]
        for num_processes, bandwidth, latency in ((8, NVLINK, 30e-6), (512, INFINIBAND, 300e-6)):
            all_reduce = ring_all_reduce(num_processes, gradients, bandwidth, latency)
            cells += [f"{1000 * all_reduce:.1f} ms", f"{compute / (compute + all_reduce):.0%}"]
        print(f"| {name}, {num_parameters / 1e6:,.1f} million | {' | '.join(cells)} |")


def ring_all_reduce(num_processes: int, num_bytes: float, bandwidth: float, latency: float) -> float:
    """Return the seconds in which a ring of processes sums an array: each sends 2 (N - 1) / N of it."""
    return latency + 2 * (num_processes - 1) / num_processes * num_bytes / bandwidth


def measure(name: str, num_processes: int, num_threads: int) -> float:
    """Return the milliseconds per step of a measurement on processes that run at the same time."""
    if name == "fit":
        return time_fit(num_processes, num_threads)
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    port = free_port()
    arguments = (num_processes, num_threads, name, port, results)
    processes = [context.Process(target=work, args=(rank, *arguments)) for rank in range(num_processes)]
    for process in processes:
        process.start()
    seconds: float = results.get()
    for process in processes:
        process.join()
    return 1000 * seconds


def work(rank: int, num_processes: int, num_threads: int, name: str, port: int, results: Any) -> None:
    """Measure in one process; rank 0 reports the seconds per step."""
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=num_processes)
    model = Decoder(CONFIG)
    if name == "all-reduce":
        gradients = torch.zeros(sum(parameter.numel() for parameter in model.parameters()))
        step: Callable[[], Any] = lambda: torch.distributed.all_reduce(gradients)  # noqa: E731
    else:
        distributed = name == "DDP" and num_processes > 1
        step = training_step(DistributedDataParallel(model) if distributed else model, BATCH_SIZE // num_processes)
    repeat(step, 20)
    torch.distributed.barrier()
    seconds = repeat(step, 100)
    torch.distributed.barrier()
    if rank == 0:
        results.put(seconds)
    torch.distributed.destroy_process_group()


def training_step(model: nn.Module, batch_size: int) -> Callable[[], None]:
    optimizer = adamw(model, learning_rate=3e-4, weight_decay=0.1, beta2=0.999)
    windows: Tensor = torch.randint(CONFIG.vocab_size, (batch_size, CONFIG.context_length + 1))
    autocast = fastest_precision("cpu") == "bf16-mixed"

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(windows[:, :-1]).flatten(end_dim=1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def repeat(step: Callable[[], Any], n: int) -> float:
    started = time.perf_counter()
    for _ in range(n):
        step()
    return (time.perf_counter() - started) / n


def time_fit(num_processes: int, num_threads: int) -> float:
    """Return the milliseconds per step of `minillm fit`, from the throughput in its metrics."""
    flags = ["--trainer.strategy", "ddp" if num_processes > 1 else "auto", "--trainer.devices", str(num_processes)]
    flags += ["--trainer.accelerator", "cpu", "--trainer.max_steps", "200", "--trainer.log_every_n_steps", "20"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minillm", "fit", *flags, "--trainer.limit_val_batches", "0"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
        with Path(folder, "lightning_logs", "minillm", "version_0", "metrics.csv").open() as file:
            rates = [float(row["chars_per_second"]) for row in csv.DictReader(file) if row["chars_per_second"]]
    return 1000 * BATCH_SIZE * CONFIG.context_length / median(rates[2:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
