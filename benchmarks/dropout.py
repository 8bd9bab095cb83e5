"""Speed of our dropout compared with PyTorch's, forward and backward, at the sizes of the reference model.

python benchmarks/dropout.py
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from minillm.model.dropout import Dropout

B, T, C = 32, 64, 128
NUM_ROUNDS = 200


def forward_backward(layer: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Return a function that runs a forward and a backward pass of a layer."""

    def run() -> None:
        layer(x).sum().backward()

    return run


def main() -> None:
    """Print the median times over interleaved rounds."""
    x = torch.randn(B, T, C, dtype=torch.bfloat16, requires_grad=True)
    linear = nn.Linear(C, 4 * C, dtype=torch.bfloat16)
    cases = {
        "nn.Dropout(0.2)": forward_backward(nn.Dropout(0.2), x),
        "ours, Dropout(0.2)": forward_backward(Dropout(0.2), x),
        f"nn.Linear({C}, {4 * C}), for scale": forward_backward(linear, x),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(NUM_ROUNDS):
        for name, run in cases.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    print(f"({B}, {T}, {C}) bf16, {torch.get_num_threads()} threads, medians of {NUM_ROUNDS}")
    for name, values in seconds.items():
        print(f"{name:32}{1000 * median(values):8.2f} ms")


if __name__ == "__main__":
    main()
