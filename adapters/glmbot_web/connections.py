"""How many connections are open at a time: within what the process may have open, and idle ones make room."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from aiohttp import web

from glmbot_web.peers import is_loopback

__all__ = ["BodyRoom", "Connections", "affordable"]

# Left for the store, the platforms, the model's servers and files.
_KEPT_FREE = 16
_FEWEST = 4


def affordable(wanted: int) -> int:
    """How many of the wanted connections this process has descriptors for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        used = 64
    if limit == resource.RLIM_INFINITY:
        return wanted
    # The last third is for those that are accepted and not counted yet, or closed and not gone yet.
    return max(_FEWEST, min(wanted, (limit - used - _KEPT_FREE) * 2 // 3))


class Connections:
    """A protocol factory of a runner's connections, at most about `most` at a time. The runner is set up.

    One more takes the place of the one that has been idle longest; while all are busy it is closed at once.
    """

    def __init__(self, runner: web.AppRunner, most: int) -> None:
        self._server = cast("web.Server", runner.server)
        self._most = most
        self._busy: set[asyncio.BaseProtocol] = set()
        self._busy_of: Counter[str] = Counter()

    @property
    def backlog(self) -> int:
        """So few are accepted before the first of them is counted."""
        return max(1, min(32, self._most // 8))

    @contextmanager
    def busy(self, request: web.Request, address: str) -> Generator[None]:
        """Around the work on a request: its connection is not idle.

        Raises 429 for an address that keeps half of all connections busy; this machine's own may have them all.
        """
        self._busy_of[address] += 1
        self._busy.add(request.protocol)
        try:
            if self._busy_of[address] > max(1, self._most // 2) and not is_loopback(address):
                raise web.HTTPTooManyRequests(
                    text="too many requests from this address at the same time", headers={"Retry-After": "5"}
                )
            yield
        finally:
            self._busy.discard(request.protocol)
            self._busy_of[address] -= 1
            if not self._busy_of[address]:
                del self._busy_of[address]

    def __call__(self) -> asyncio.BaseProtocol:
        # In the order in which they were opened.
        open_ = [handler for handler in self._server.connections if handler.transport is not None]
        if len(open_) < self._most:
            return self._server()
        for handler in open_:
            if handler not in self._busy:
                handler.force_close()
                return self._server()
        return _Refused()


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class BodyRoom:
    """Memory for the bodies of all requests in progress; small ones always find room."""

    _SMALL = 64 * 1024

    def __init__(self, size: int) -> None:
        self._left = size

    @contextmanager
    def taken(self, length: int) -> Generator[None]:
        """Raises 503 while others' large bodies fill it."""
        if length > self._SMALL and length > self._left:
            raise web.HTTPServiceUnavailable(
                text="too many large requests at the same time", headers={"Retry-After": "5"}
            )
        self._left -= length
        try:
            yield
        finally:
            self._left += length
