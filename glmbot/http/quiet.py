"""Of each kind of fault one line in a few seconds: who makes faults can't fill the disk."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Quiet"]

_EVERY_S = 5.0
_MOST_KINDS = 100
_LONGEST_KIND = 200


class Quiet:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def lets(self, kind: str) -> bool:
        """Whether this one may be told now."""
        kind, now = kind[:_LONGEST_KIND], self._clock()
        if now - self._told.get(kind, -_EVERY_S) < _EVERY_S:
            return False
        if kind not in self._told and len(self._told) >= _MOST_KINDS:
            self._told.clear()
        self._told[kind] = now
        return True
