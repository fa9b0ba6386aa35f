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
_LONGEST_WAIT_S = 3600.0
_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RECENT = 64
_FINISHES = 32


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
        self._busy_s = 0.0
        self._busy_since: float | None = None
        self._finishes: deque[tuple[float, int]] = deque(maxlen=_FINISHES)
        """Of each the busy time at which it ended, and all tokens generated until then."""
        self._waits = [0] * (len(_BOUNDS) + 1)
        self._waited = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def working(self, busy: bool) -> None:
        """Whether anything is being computed from now on. Rates count the time in which something was."""
        now = self._clock()
        if self._busy_since is not None:
            self._busy_s += now - self._busy_since
        self._busy_since = now if busy else None

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
        self.working(self._busy_since is not None)
        self._finishes.append((self._busy_s, self.generated))

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

    def expected_wait(self, waiting: int) -> float | None:
        """Seconds until a request behind `waiting` others begins: how fast requests ended lately while anything
        ran, or how fast their tokens come right now. At most an hour; None when too little is known."""
        finishes = list(self._finishes)
        if len(finishes) < 2:
            return None
        (began, before), (ended, after) = finishes[0], finishes[-1]
        each_s = (ended - began) / (len(finishes) - 1)
        if speed := self.speed():
            each_s = (after - before) / (len(finishes) - 1) / speed
        return min(_LONGEST_WAIT_S, max(1.0, (waiting + 1) * each_s))
