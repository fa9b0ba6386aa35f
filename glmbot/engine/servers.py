"""Which of several model servers to ask: a circuit breaker for each, the least busy first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Server", "Servers"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
# Whoever starts it with other flags waits so long at most.
_NO_TOOLS_S = 600.0


@dataclass(slots=True, eq=False)
class Server:
    """`url` ends in the interface's version, as in http://127.0.0.1:8080/v1. `label` may be shown and logged."""

    url: str
    label: str
    model: str = ""
    """Its name for the model; "" while it must be asked, or asked again since it failed."""
    trouble: str = "has not been asked"
    """Why it failed last."""
    requests: int = 0
    """Open at this moment."""
    failures: int = 0
    """In a row."""
    closed_until: float = 0.0
    """Seconds of the clock; nobody asks before."""
    probing: bool = False
    """One request alone tries whether it works again."""
    no_tools_until: float = 0.0
    """It has refused a tool, and is told of them in words."""

    @property
    def works(self) -> bool:
        return self.failures == 0


class Servers:
    """A server that failed is left alone for a second, then twice as long each time, at most half a minute; then
    one request alone tries it, and when that begins to be answered all may come again (the circuit breaker of
    Nygard, "Release It!")."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.all = [Server(url.rstrip("/"), urlsplit(url).netloc.rpartition("@")[2]) for url in urls]
        self._clock = clock

    def choose(self) -> Server | None:
        """Take one that failed and may be tried again, else the least busy, of equals the one named first.

        Each choice must be followed by `leave`. None when all must be left alone.
        """
        now = self._clock()
        free = [server for server in self.all if now >= server.closed_until and not server.probing]
        if not free:
            return None
        server = min(free, key=lambda each: (each.works, each.requests))
        server.requests += 1
        server.probing = not server.works
        return server

    def takes_tools(self, server: Server) -> bool:
        """As far as is known."""
        return self._clock() >= server.no_tools_until

    def refused_tools(self, server: Server) -> None:
        server.no_tools_until = self._clock() + _NO_TOOLS_S

    def pause_s(self) -> float:
        """Until the next one may be asked, as far as is known."""
        now = self._clock()
        waits = [server.closed_until - now for server in self.all if not server.probing]
        return max(0.0, min(waits, default=_FIRST_PAUSE_S))

    def works(self, server: Server) -> None:
        """It has begun to answer."""
        server.failures, server.closed_until, server.probing = 0, 0.0, False

    def failed(self, server: Server, trouble: str, again_after_s: float | None = None) -> None:
        """`again_after_s`: when the server itself said so (Retry-After)."""
        server.trouble, server.model, server.no_tools_until = trouble, "", 0.0
        server.failures += 1
        pause = min(_FIRST_PAUSE_S * 2 ** min(server.failures - 1, 10), _LONGEST_PAUSE_S)
        server.closed_until = self._clock() + (pause if again_after_s is None else again_after_s)
        server.probing = False

    def leave(self, server: Server) -> None:
        """The request is over, however it went."""
        server.requests -= 1
        if server.requests == 0:
            # Given up before it was known: the next one may try.
            server.probing = False
