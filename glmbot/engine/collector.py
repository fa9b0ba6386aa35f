"""What Python's garbage collector looks at beside a model.

A full collection goes through all objects that there are. The modules of torch and Transformers are hundreds of
thousands: every thread stands still for a quarter of a second, streams included.
https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc
from functools import cache

__all__ = ["pass_over_modules"]


@cache
def pass_over_modules() -> None:
    """From now on collections pass over what is there. Only the first call does anything: to be made before the
    first model is loaded, so that no model is ever among it."""
    gc.freeze()
