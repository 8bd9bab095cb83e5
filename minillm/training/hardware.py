"""Hardware: numerical precision, threads, memory allocation, and a check of the physical memory."""

import ctypes
import os
import sys

import torch

from minillm.cpus import usable_cpus, user_sets_threads

MAX_THREADS = torch.get_num_threads()  # the default: one per physical core that the process may run on
MIN_ACTIVATIONS_PER_THREAD = 2**14  # with fewer, threads cost more than they save
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameter numbers of mallopt, from glibc's malloc.h


def fastest_precision(accelerator: str) -> str:
    """Choose the precision for this hardware: bf16 autocast if it multiplies bf16 matrices natively, else float32.

    Args:
        accelerator: The Trainer's `accelerator`.

    Returns:
        The Trainer's `precision`: `bf16-mixed` or `32-true`.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        device_type = "cuda"
    elif accelerator == "auto":
        device_type = "mps" if torch.backends.mps.is_available() else "cpu"
    else:
        device_type = accelerator
    return "bf16-mixed" if multiplies_bf16(device_type) else "32-true"


def multiplies_bf16(device_type: str) -> bool:
    """Whether a device multiplies bf16 matrices natively; emulated products are many times slower than float32.

    Args:
        device_type: The `type` of a torch.device.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_num_threads(batch_size: int, context_length: int, embed_dim: int) -> None:
    """Set the number of threads on the CPU to what a training step can use, unless an environment variable sets it.

    Args:
        batch_size: Windows per batch B.
        context_length: Tokens per window T.
        embed_dim: Channels C; B T C activations are divided among the threads.
    """
    if not user_sets_threads():
        useful = batch_size * context_length * embed_dim // MIN_ACTIVATIONS_PER_THREAD
        torch.set_num_threads(max(1, min(useful, MAX_THREADS, usable_cpus())))


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for reuse, instead of returning large blocks to the kernel.

    Every training step allocates blocks of the same sizes; a block from the kernel costs one page fault per 4 KiB. Does
    nothing on systems other than Linux with glibc.

    Source: mallopt(3).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def check_memory(embed_dim: int, num_layers: int, num_heads: int, batch_size: int, context_length: int) -> None:
    """Check that training fits into the physical memory, before it exhausts the memory of other processes.

    The check uses a lower bound of the required memory; training can need more.

    Args:
        embed_dim: Channels C.
        num_layers: Blocks of 12 C² weights each; a weight, its gradient and AdamW's two moments take 16 bytes.
        num_heads: Heads H; each has T x T attention weights per window, of at least 2 bytes.
        batch_size: Number of windows B.
        context_length: Tokens T per window; a token and its channels take at least 8 + 4 C bytes.

    Raises:
        ValueError: The lower bound exceeds the physical memory.
    """
    if not hasattr(os, "sysconf"):
        return
    physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    window_bytes = context_length * (8 + 4 * embed_dim + 2 * num_heads * context_length)
    required_bytes = 16 * 12 * embed_dim**2 * num_layers + batch_size * window_bytes
    if required_bytes > physical_bytes:
        raise ValueError(
            f"model.embed_dim {embed_dim}, model.num_layers {num_layers}, data.batch_size {batch_size} and "
            f"data.context_length {context_length} need at least {required_bytes / 1e9:,.0f} GB of memory, but "
            f"this machine has {physical_bytes / 1e9:,.0f} GB: reduce one of them"
        )
