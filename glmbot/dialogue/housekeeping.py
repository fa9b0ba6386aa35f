"""What the store has to do now and then, by one process, a little at a time: old turns, interrupted wishes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from glmbot.errors import StoreError
from glmbot.store.base import Coordination, Upkeep

__all__ = ["Housekeeping", "SteadyClock"]

_log = logging.getLogger(__name__)

_LEASE = "tidy"
_LEASE_S = 120.0
_EVERY_S = 20.0
# Between two steps, so that who writes meanwhile does not notice.
_PAUSE_S = 0.02
_JUMP_S = 300.0
_BELIEVED_AFTER_S = 86400.0


class _Tidied(Coordination, Upkeep, Protocol):
    """What is to be tidied, by one process at a time."""


class SteadyClock:
    """Unix time for what deletes by age. A clock that jumps, a year ahead at worst, is believed only after a day:
    until then time goes on as if it had not."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._offset = clock() - monotonic()
        self._strange_since: float | None = None

    def now(self) -> float:
        monotonic = self._monotonic()
        offset = self._clock() - monotonic
        if abs(offset - self._offset) < _JUMP_S:
            # Small corrections are followed; they add up to what the time is.
            self._offset, self._strange_since = offset, None
        elif self._strange_since is None:
            self._strange_since = monotonic
            _log.warning(
                "the clock jumped by %.0f s; nothing is deleted by it for a day", offset - self._offset
            )
        elif monotonic - self._strange_since > _BELIEVED_AFTER_S:
            self._offset, self._strange_since = offset, None
        return monotonic + self._offset


class Housekeeping:
    def __init__(
        self,
        store: _Tidied,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = SteadyClock(clock)
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled. Whoever else has the store does nothing meanwhile."""
        while True:
            try:
                more = await self._step()
            except StoreError as error:
                _log.warning("the store could not be tidied: %s", error)
                more = False
            await self._sleep(_PAUSE_S if more else _EVERY_S)

    async def _step(self) -> bool:
        if await self._store.lease(_LEASE, _LEASE_S) != self._store.owner:
            return False
        return await self._store.tidy(self._clock.now())
