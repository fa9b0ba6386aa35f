"""Work on what was heard: within a chat in the order in which it came, and chats beside each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from glmbot.background import Background

__all__ = ["Lanes"]

_MOST_WAITING = 2000
_MOST_OF_ONE = 100


class Lanes:
    def __init__(self) -> None:
        self._lanes: dict[str, deque[Callable[[], Awaitable[None]]]] = {}
        self._waiting = 0
        self._background = Background()

    def begin(self, lane: str, work: Callable[[], Awaitable[None]]) -> bool:
        """False, and it is left out, where too much waits already."""
        queue = self._lanes.get(lane)
        if self._waiting >= _MOST_WAITING or (queue is not None and len(queue) >= _MOST_OF_ONE):
            return False
        self._waiting += 1
        if queue is not None:
            queue.append(work)
            return True
        self._lanes[lane] = deque([work])
        self._background.begin(self._go(lane))
        return True

    async def drain(self, grace_s: float) -> None:
        await self._background.drain(grace_s)

    async def _go(self, lane: str) -> None:
        queue = self._lanes[lane]
        try:
            while queue:
                self._waiting -= 1
                await queue.popleft()()
                await asyncio.sleep(0)
        finally:
            self._waiting -= len(queue)
            del self._lanes[lane]
