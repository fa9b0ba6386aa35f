"""What a device reads of its memory in a second: the bound of decoding."""

from __future__ import annotations

import os
import sys
import time

import torch

__all__ = ["THREADS", "read_gb_s"]

# Those that this process may use.
THREADS = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
_READ_BYTES = 1 << 29
_PASSES = 12


def read_gb_s(device: torch.device | None = None) -> float:
    """GB/s at best of several passes; of a CPU with all threads, whatever torch has here otherwise."""
    device = device or torch.device("cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        data = torch.ones(_READ_BYTES // 8, dtype=torch.int64, device=device)
        return max(_pass(data) for _ in range(_PASSES))
    finally:
        torch.set_num_threads(before)


def _pass(data: torch.Tensor) -> float:
    _wait(data.device)
    began = time.perf_counter()
    data.sum()
    _wait(data.device)
    return data.nbytes / (time.perf_counter() - began) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
