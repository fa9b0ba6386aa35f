"""What Python's garbage collector looks at while a model is loaded.

A full collection goes through all objects that there are. Those of torch, Transformers and a model are hundreds of
thousands: every thread stands still for a quarter of a second, streams included.
https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["collect", "passed_over"]

_lock = threading.Lock()
_inside = 0


@contextmanager
def passed_over() -> Generator[None]:
    """Inside, collections pass over what is there at the beginning; all is looked at again when a block ends."""
    global _inside
    # What loading left behind is young; to look for older objects takes as long as is to be saved.
    gc.collect(1)
    with _lock:
        _inside += 1
        gc.freeze()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            gc.unfreeze()


def collect() -> None:
    """Free all that nobody can reach, be it passed over otherwise."""
    with _lock:
        gc.unfreeze()
        gc.collect()
        if _inside:
            gc.freeze()
