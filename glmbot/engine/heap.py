"""Keeping glibc's heap from growing while weights come and go.

Freed weights leave holes that the next precision's, of another size, do not fit: after forty switches the process
held tens of megabytes more. Weights that are mapped each by itself go back to the system when they are freed.
https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["weights_apart"]

_MMAP_THRESHOLD = -3
_APART = 1 << 18
# What glibc's own adjustment ends at: working memory is kept at hand, as clearing new pages is slow.
_USUAL = 1 << 25


@contextmanager
def weights_apart() -> Generator[None]:
    """Inside, every allocation from 256 KiB on is mapped by itself. Does nothing with another C library."""
    libc = ctypes.CDLL(None if sys.platform != "win32" else "msvcrt")
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _APART)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL)
        libc.malloc_trim(0)
