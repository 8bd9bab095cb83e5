"""Benchmark on one GPU: time of a training step, time to nanoGPT's validation loss, exact resume, memory.

    pip install -e ".[benchmarks]"
    python benchmarks/gpu.py [--smoke]

Steps are timed eager, compiled, and with CUDA graphs, beside Hugging Face's GPT-2 of the same size, compiled, with bf16
autocast and fused AdamW. `--smoke` runs everything on the CPU, with tiny models and nothing compiled, in seconds.
"""

import argparse
import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from kill import equal
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional as F

import minillm

CONFIGS = Path(__file__).parent.parent / "configs"
MODES = {"eager": "none", "compiled": "default", "compiled, CUDA graphs": "reduce-overhead"}
NANOGPT_LOSS = 1.4697  # best validation loss that nanoGPT's README reports for its Shakespeare model
TINY = {"embed_dim": 24, "num_layers": 1, "num_heads": 2}


@dataclass(frozen=True)
class Scale:
    """Device and lengths of the measurements."""

    device: str
    warmup_steps: int
    timed_steps: int
    model: dict[str, Any]
    trainer: dict[str, Any]


GPU = Scale("cuda", 50, 300, {}, {"accelerator": "gpu"})
SMOKE = Scale("cpu", 1, 2, TINY, {"accelerator": "cpu", "limit_val_batches": 1})


class Stopwatch(Callback):
    """Measure the time per step after a number of steps, and the time and loss of each validation."""

    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps
        self.validations: list[tuple[float, float]] = []  # seconds, val_loss

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = now()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.warmup_steps:
            self.warm = now()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations.append((now() - self.start, trainer.callback_metrics["val_loss"].item()))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = now() - self.start
        self.step_ms = 1000 * (now() - self.warm) / (trainer.global_step - self.warmup_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training on one GPU.")
    parser.add_argument("--smoke", action="store_true", help="run tiny models on the CPU, to test this script")
    scale = SMOKE if parser.parse_args().smoke else GPU
    device = torch.cuda.get_device_name() if scale is GPU else "the CPU (smoke test: the numbers mean nothing)"
    print(f"{device}, torch {torch.__version__}, MiniLLM {minillm.__version__}\n", flush=True)
    stance = torch.compiler.set_stance("force_eager" if scale is SMOKE else "default")
    with stance, tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        measure_steps(scale)
        measure_training(scale)
        measure_resume(scale)


def measure_steps(scale: Scale) -> None:
    """Print the time per step and the peak memory of each mode, at two sizes, beside Hugging Face's GPT-2."""
    print("| configuration | training | ms per step | peak memory |\n|---|---|---|---|", flush=True)
    max_steps = scale.warmup_steps + scale.timed_steps
    for config in ("minillm", "gpu"):
        for name, mode in MODES.items():
            stopwatch = Stopwatch(scale.warmup_steps)
            trainer = {"max_steps": max_steps, "limit_val_batches": 0}
            train(scale, config, stopwatch, model={"compile": mode}, trainer=trainer, name=f"{config}-{mode}")
            print(f"| {config} | MiniLLM, {name} | {stopwatch.step_ms:.2f} | {peak_memory()} |", flush=True)
        step_ms = time_huggingface(scale, config)
        print(f"| {config} | GPT-2 of Hugging Face, compiled | {step_ms:.2f} | {peak_memory()} |", flush=True)


def measure_training(scale: Scale) -> None:
    """Print the losses of gpu.yaml, and the time to nanoGPT's."""
    stopwatch = Stopwatch(scale.warmup_steps)
    trainer = {"val_check_interval": 100} if scale is GPU else {"max_steps": 4, "val_check_interval": 2}
    train(scale, "gpu", stopwatch, trainer=trainer, name="gpu-training")
    last = stopwatch.validations[-1][1]
    best = min(loss for _, loss in stopwatch.validations)
    print(f"\ngpu.yaml: val_loss {last:.4f} (best {best:.4f}) after {stopwatch.seconds:.1f} s, {peak_memory()}")
    reached = [seconds for seconds, loss in stopwatch.validations if loss <= NANOGPT_LOSS]
    print(f"val_loss {NANOGPT_LOSS}: {f'after {reached[0]:.1f} s' if reached else 'not reached'}", flush=True)


def measure_resume(scale: Scale) -> None:
    """Print whether a resumed run equals an uninterrupted one."""
    for mode in MODES.values():
        settings: dict[str, Any] = {"model": {"compile": mode}, "checkpoints": {"keep_every_n_steps": 2}}
        runs = [train(scale, "smoke", trainer={"max_steps": 4}, name=f"smoke-{mode}", **settings)]
        ckpt_path = str(runs[0].run_folder / "checkpoints" / "step_2.ckpt")
        runs.append(train(scale, "smoke", trainer={"max_steps": 4}, ckpt_path=ckpt_path, **settings))
        expected, resumed = (torch.load(run.last_checkpoint or "", "cpu", weights_only=True) for run in runs)
        are_equal = all(equal(expected[key], resumed[key]) for key in ("state_dict", "optimizer_states"))
        print(f"exact resume, model.compile {mode}: {'yes' if are_equal else 'NO'}", flush=True)


def train(scale: Scale, config: str, *callbacks: Callback, **settings: Any) -> minillm.FitResult:
    """Train a configuration, and print nothing."""
    reset_state(scale)
    settings["model"] = {**scale.model, **settings.get("model", {})}
    settings["trainer"] = {**scale.trainer, **settings["trainer"]}
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        return minillm.fit(str(CONFIGS / f"{config}.yaml"), callbacks=callbacks, **settings)


def time_huggingface(scale: Scale, config: str) -> float:
    """Return the milliseconds per step of Hugging Face's GPT-2 in the size of a configuration."""
    from transformers import GPT2Config, GPT2LMHeadModel

    reset_state(scale)
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    sizes, (B, T) = (
        {**settings["model"], **scale.model},
        (settings["data"][k] for k in ("batch_size", "context_length")),
    )
    dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), sizes["dropout"])
    shape = {"n_embd": sizes["embed_dim"], "n_layer": sizes["num_layers"], "n_head": sizes["num_heads"]}
    tokens: dict[str, Any] = {"vocab_size": 65, "bos_token_id": 0, "eos_token_id": 0}
    model: Any = GPT2LMHeadModel(GPT2Config(n_positions=T, use_cache=False, **tokens, **shape, **dropout))
    model.train().to(scale.device).compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    text = torch.randint(65, (1_000_000,), device=scale.device)
    offsets = torch.arange(T + 1, device=scale.device)
    start = now()
    for step in range(scale.warmup_steps + scale.timed_steps):
        if step == scale.warmup_steps:
            start = now()
        windows = text[torch.randint(len(text) - T, (B, 1), device=scale.device) + offsets]
        with torch.autocast(scale.device, torch.bfloat16):
            logits = model(input_ids=windows[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(end_dim=1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 1000 * (now() - start) / scale.timed_steps


def reset_state(scale: Scale) -> None:
    """Forget compiled code and the peak memory of the previous measurement."""
    torch.compiler.reset()
    if scale is GPU:
        torch.cuda.reset_peak_memory_stats()


def now() -> float:
    """Return the time in seconds, after everything that was sent to the GPU is computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory() -> str:
    if not torch.cuda.is_available():
        return "unknown memory"
    return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"


if __name__ == "__main__":
    main()
