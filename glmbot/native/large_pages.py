"""Memory on large pages, for what every step reads whole.

A processor finds a page's place in memory by a table, and fetches ahead within a page only: with pages of 2 MiB in
place of 4 KiB it reads faster, in a virtual machine above all. Linux gives such pages to those who ask
(https://docs.kernel.org/admin-guide/mm/transhuge.html), unless its `enabled` says never.
"""

from __future__ import annotations

import mmap
import threading
import weakref

import torch
from torch import Tensor

__all__ = ["on_large_pages"]

_PAGE = 1 << 21
_REGION = 16 * _PAGE
_LINE = 64

_lock = threading.Lock()
_region: weakref.ref[mmap.mmap] | None = None
_used = 0


def on_large_pages(tensor: Tensor) -> Tensor:
    """The same numbers without gaps, where the system has been asked for large pages if it can be.

    Tensors that are moved one after the other are neighbours. A region of 32 MiB goes back to the system with the
    last of its tensors.
    """
    needed = -(-tensor.nbytes // _LINE) * _LINE
    with _lock:
        place = _place_for(needed) if needed and tensor.device.type == "cpu" else None
    if place is None:
        return tensor.contiguous()
    region, at = place
    moved = torch.frombuffer(region, dtype=tensor.dtype, count=tensor.numel(), offset=at).view(tensor.shape)
    return moved.copy_(tensor)


def _place_for(needed: int) -> tuple[mmap.mmap, int] | None:
    global _region, _used
    region = None if _region is None else _region()
    if region is None or len(region) - _used < needed:
        region = _asked_for(max(_REGION, -(-needed // _PAGE) * _PAGE))
        if region is None:
            return None
        _region, _used = weakref.ref(region), 0
    at, _used = _used, _used + needed
    return region, at


def _asked_for(size: int) -> mmap.mmap | None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        # Shared memory, which is mmap's default, has a setting of its own for large pages.
        region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        region.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        # A kernel without large pages, or no memory for one region.
        return None
    return region
