"""The hardware: which precision is fast on it, how its memory is used, and whether that is enough."""

import ctypes
import os
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def fastest_precision(accelerator: str) -> str:
    """The precision to train in: bf16 autocast where the hardware multiplies bf16 matrices, else float32.

    Args:
        accelerator: As the Trainer takes it.

    Returns:
        As the Trainer's `precision` takes it: `bf16-mixed` or `32-true`.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        processor = torch.cpu.get_capabilities()
        fast = bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step, where it otherwise hands large pieces back to the kernel.

    Every step allocates the same megabytes again, and fetching them from the kernel costs a page fault each 4 KiB.
    Elsewhere than on Linux with glibc this does nothing.

    Source: mallopt(3).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def check_size(embed_dim: int, num_layers: int, num_heads: int, batch_size: int, context_length: int) -> None:
    """Refuse what cannot fit into this machine, before it takes the memory of everything else that runs here.

    Args:
        embed_dim: Channels C.
        num_layers: Blocks, of 12 C² weights each; a weight, its gradient and AdamW's two moments take 16 bytes.
        num_heads: Heads H; each has T x T weights of attention for a window, of at least 2 bytes.
        batch_size: Windows B.
        context_length: Tokens T of a window; a token and its channels take at least 8 + 4 C bytes.

    Raises:
        ValueError: It is too large.
    """
    if not hasattr(os, "sysconf"):
        return
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    window = context_length * (8 + 4 * embed_dim + 2 * num_heads * context_length)
    least = 16 * 12 * embed_dim**2 * num_layers + batch_size * window
    if least > here:
        raise ValueError(
            f"model.embed_dim {embed_dim}, model.num_layers {num_layers}, data.batch_size {batch_size} and "
            f"data.context_length {context_length} need {least / 1e9:,.0f} GB: this machine has {here / 1e9:,.0f} GB"
        )
