"""What the engine counts while it works: for its own estimates, for /status and for Prometheus."""

from __future__ import annotations

import statistics
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from glmbot.engine.base import Waits

__all__ = ["Counters"]

_SPEED_WINDOW_S = 10.0
_GUESSED_SERVICE_S = 20.0
_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RECENT = 64


class Counters:
    """Written by the model thread alone, but for `refused`; read by anybody."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.generated = 0
        self.read = 0
        self.reused = 0
        self.finished = 0
        self.cancelled = 0
        self.refused = 0
        self.largest_batch = 0
        self.guessed = 0
        self.guessed_right = 0
        self._drawn: deque[tuple[float, int]] = deque()
        self._finish_times: deque[float] = deque(maxlen=32)
        self._waits = [0] * (len(_BOUNDS) + 1)
        self._waited = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def step(self, batch: int, drawn: int) -> None:
        now = self._clock()
        self.largest_batch = max(self.largest_batch, batch)
        self._drawn.append((now, drawn))
        while self._drawn and self._drawn[0][0] < now - _SPEED_WINDOW_S:
            self._drawn.popleft()

    def first_token(self, waited_s: float) -> None:
        self._waits[bisect_left(_BOUNDS, waited_s)] += 1
        self._waited += waited_s
        self._recent.append(waited_s)

    def finish(self) -> None:
        self.finished += 1
        self._finish_times.append(self._clock())

    def waits(self) -> Waits:
        counts: list[int] = []
        for count in self._waits:
            counts.append(count + (counts[-1] if counts else 0))
        recent = list(self._recent)
        return Waits(
            _BOUNDS,
            tuple(counts[:-1]),
            counts[-1],
            self._waited,
            statistics.median(recent) if recent else None,
        )

    def speed(self) -> float:
        """New tokens a second over the last ten seconds in which anything ran."""
        now = self._clock()
        recent = [(at, tokens) for at, tokens in list(self._drawn) if at > now - _SPEED_WINDOW_S]
        if len(recent) < 2:
            return 0.0
        return sum(tokens for _, tokens in recent[1:]) / max(1e-6, recent[-1][0] - recent[0][0])

    def expected_wait(self, waiting: int, max_batch: int) -> float:
        """Seconds until a request behind `waiting` others begins, by how fast requests ended lately."""
        times = list(self._finish_times)
        if len(times) < 2 or times[-1] <= times[0]:
            return _GUESSED_SERVICE_S * (1 + waiting / max_batch)
        rate = (len(times) - 1) / (times[-1] - times[0])
        return (waiting + 1) / rate
