"""Room for a few calls of a server at once: nobody takes more than half, and none while they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["Hold", "Slots"]


class Hold:
    """One call's place."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room = room
        self._held = True
        self._ended = False

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[None]:
        """Meanwhile somebody else may have the place; afterwards it is waited for again."""
        lends = self._held
        if lends:
            self._held = False
            self._room.release()
        try:
            yield
        finally:
            if lends and not self._ended:
                await self._room.acquire()
                self._held = True
                if self._ended:
                    # The call was given up while this waited.
                    self.end()

    def end(self) -> None:
        self._ended = True
        if self._held:
            self._held = False
            self._room.release()


class Slots:
    def __init__(self, at_once: int) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._share = max(1, at_once // 2)
        self._people: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def taken(self, person: str) -> AsyncGenerator[Hold]:
        own, count = self._people.get(person, (asyncio.Semaphore(self._share), 0))
        self._people[person] = own, count + 1
        try:
            # Who waits for their own share takes nobody's place.
            async with own:
                await self._room.acquire()
                hold = Hold(self._room)
                try:
                    yield hold
                finally:
                    hold.end()
        finally:
            own, count = self._people[person]
            if count > 1:
                self._people[person] = own, count - 1
            else:
                del self._people[person]
