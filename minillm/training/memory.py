"""Memory: what fits, and what becomes of what a step has freed."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


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
