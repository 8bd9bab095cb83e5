"""What becomes of memory that a training step has freed."""

import ctypes
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
