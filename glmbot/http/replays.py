"""Requests that a platform has signed: each counts once, and only for some minutes.

Who listens on the way can send a signed request again, as it is. Within the time that its signature holds it is
known by that; after it, by its age.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime

__all__ = ["CLOCK_OFF_S", "Replays", "clock_ahead"]

_MOST = 20_000
CLOCK_OFF_S = 120.0
"""Platforms that sign allow five minutes on the whole: a clock that is so far off is worth a word."""


def clock_ahead(date: str, now: float) -> float:
    """By how many seconds this machine's clock is ahead of the `Date` of a platform's answer, below 0 where it is
    behind; 0 where the answer has none."""
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0


class Replays:
    """clock: Unix time. window_s: how much a request's time may differ from it."""

    def __init__(self, clock: Callable[[], float], window_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._seen: dict[str, float] = {}

    def fresh(self, timestamp: str) -> bool:
        """Whether a request of that Unix time, as it is written in it, is neither old nor of the future."""
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return False
        return abs(self._clock() - int(timestamp)) <= self._window_s

    def seen(self, signature: str) -> bool:
        """Whether a request with this signature was taken."""
        return signature in self._seen

    def take(self, signature: str) -> None:
        """It did what it asked for. What fails may be sent again as it is."""
        now = self._clock()
        # The oldest stand first; a signature made in the future holds for twice the window.
        while self._seen and (
            len(self._seen) >= _MOST or next(iter(self._seen.values())) < now - 2 * self._window_s
        ):
            del self._seen[next(iter(self._seen))]
        self._seen[signature] = now
