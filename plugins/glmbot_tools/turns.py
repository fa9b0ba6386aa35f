"""Room for a few at once, of which one person takes one: whoever fills theirs with what is slow waits alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["Turns"]


class Turns:
    def __init__(self, at_once: int) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._people: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, person: str) -> AsyncGenerator[None, None]:
        lock, waiting = self._people.get(person, (asyncio.Lock(), 0))
        self._people[person] = lock, waiting + 1
        try:
            async with lock, self._room:
                yield
        finally:
            lock, waiting = self._people[person]
            if waiting > 1:
                self._people[person] = lock, waiting - 1
            else:
                # Nobody waits for it any more.
                del self._people[person]
