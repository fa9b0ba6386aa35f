"""Room for a few calls of a server at once: nobody takes more than half, and none while they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

__all__ = ["Hold", "Slots"]

_T = TypeVar("_T")


class Hold:
    """One call's place. `sampled`: how often its server has asked the model in it."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room = room
        self._held = True
        self._over = asyncio.Event()
        self.sampled = 0
        self.one_at_a_time = asyncio.Lock()

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
            if lends and not self._over.is_set():
                await self._room.acquire()
                self._held = True
                if self._over.is_set():
                    # The call was given up while this waited.
                    self.end()

    async def meanwhile(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What comes of it; None where the call ends first, and then nothing of it goes on."""
        working, over = asyncio.ensure_future(work), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            over.cancel()
            await asyncio.gather(working, over, return_exceptions=True)

    def end(self) -> None:
        self._over.set()
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
