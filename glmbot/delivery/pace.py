"""When a chat may be written to again. The decisions are pure: time is an argument, in seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

__all__ = ["Pace"]

_SLOWEST_S = 30.0
_SOON_S = 1.0


@dataclass(slots=True)
class Pace:
    """One chat's rhythm: `interval` between writes, wider after each flood answer, slowly back to `base`.

    `within`: the rhythm of all chats together. `aside`: what can wait is written by one at a time, so that who
    has much of it holds up no answer.
    """

    base: float
    interval: float = 0.0
    ready_at: float = 0.0
    within: Pace | None = None
    held_until: float = 0.0
    aside: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.interval = self.interval or self.base

    def wait(self, now: float) -> float:
        """Seconds until the next write is allowed."""
        return max(0.0, self.ready_at - now)

    def is_calm(self, now: float) -> bool:
        """Whether what may as well be left out would keep few others waiting, in whatever chats."""
        return self.within is None or self.within.wait(now) < _SOON_S

    def reserve(self, now: float) -> None:
        """A write begins: the next one must keep its distance, also when another answer makes it."""
        self.interval = max(self.base, self.interval * 0.9)
        self.ready_at = now + self.interval

    def flooded(self, now: float, retry_after: float) -> None:
        """The platform said to come back after `retry_after` seconds: not a moment sooner."""
        self.interval = min(_SLOWEST_S, self.interval * 2)
        self.held_until = max(self.held_until, now + retry_after)
        self.ready_at = max(self.ready_at, self.held_until)

    async def turn(self) -> None:
        """Wait until a write is allowed, and reserve it."""
        loop = asyncio.get_running_loop()
        while True:
            # Someone else may have reserved, or a flood answer come, while this one slept.
            while (wait := self.wait(loop.time())) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            self.reserve(loop.time())
            await self.follow()
            # Where many wait for their turn among all chats, one may have come meanwhile, too.
            if loop.time() >= self.held_until:
                return

    async def follow(self) -> None:
        """Wait for a request that belongs to the one before it, so that only all chats' rhythm holds for it."""
        if self.within is not None:
            now = asyncio.get_running_loop().time()
            # One after the other, each with its own time: who all wake up at once would jostle.
            at = now + self.within.wait(now)
            self.within.reserve(at)
            await asyncio.sleep(at - now)
