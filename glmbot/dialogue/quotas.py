"""How much one person, or one chat, may ask in an hour. Pure: time is an argument, in seconds."""

from __future__ import annotations

from collections import defaultdict, deque

__all__ = ["Quotas"]

_HOUR_S = 3600.0


class Quotas:
    """Counts over the last hour, by owner. They begin anew with each process."""

    def __init__(self) -> None:
        self._taken: dict[str, deque[float]] = defaultdict(deque)

    def take(self, limits: dict[str, int], now: float) -> float:
        """Count one question for every owner, unless one of them has used up its limit (0: it has none).

        Returns 0, or the seconds until the question could be asked; nothing is counted then.
        """
        wait = 0.0
        for owner, limit in limits.items():
            taken = self._recent(owner, now)
            if limit and len(taken) >= limit:
                wait = max(wait, taken[-limit] + _HOUR_S - now)
        if wait <= 0:
            for owner in limits:
                self._taken[owner].append(now)
        return max(0.0, wait)

    def used(self, owner: str, now: float) -> int:
        return len(self._recent(owner, now))

    def _recent(self, owner: str, now: float) -> deque[float]:
        taken = self._taken[owner]
        while taken and taken[0] <= now - _HOUR_S:
            taken.popleft()
        return taken
