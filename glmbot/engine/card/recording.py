"""Work for a card that is recorded once and done again at the cost of one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

__all__ = ["Again", "Graphs", "Recorder", "recorder_of"]

Again = Callable[[], None]
"""Does what was recorded once more, on the memory that it was recorded with."""
# What is compiled, chosen and allocated at first use may not be so while a graph is recorded.
_WARMING = 2


class Recorder(Protocol):
    pinned: bool
    """Whether what is sent to the device is best laid out in pinned memory."""

    def record(self, compute: Callable[[], None]) -> Again:
        """compute: reads and writes what is always in the same place, and has the host read nothing."""
        ...

    def passed(self) -> Callable[[], None]:
        """What waits until the device has done all that it was given until now."""
        ...


class Graphs:
    """CUDA graphs, replayed one after another, so that one pool of memory is enough for all.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs"""

    pinned = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._first: torch.cuda.CUDAGraph | None = None

    def record(self, compute: Callable[[], None]) -> Again:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARMING):
                    compute()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            pool = None if self._first is None else self._first.pool()
            # Other threads may go on with the card meanwhile.
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                compute()
        # The pool lives as long as a graph that is recorded in it.
        self._first = self._first or graph
        return graph.replay

    def passed(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event.synchronize


def recorder_of(device: torch.device) -> Recorder | None:
    """None for a device whose work can't be recorded."""
    return Graphs(device) if device.type == "cuda" else None
