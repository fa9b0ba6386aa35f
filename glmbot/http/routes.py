"""What adapters answer over HTTP: routes of the one server, which [web] runs. Values alone; nothing listens here.

A route says whom it admits before anything of a body is read, and what a request may take in size and time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Address", "HttpAnswer", "HttpCall", "Route", "RouteWish", "Talk"]


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request that a route has admitted. Names of headers may be written in any case."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int = 200
    text: str = "ok"
    media_type: str = "text/plain"


class Talk(Protocol):
    """A WebSocket: texts both ways."""

    async def receive(self) -> str | None:
        """The next text; None once nothing more will come."""
        ...

    async def send(self, text: str) -> None:
        """Raises ConnectionError where nobody takes it any more."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Route:
    """path: of the address as it is decoded, and exactly that. admits: by the headers alone; who is not admitted
    gets a 401 and is not listened to. handle: raises StoreError for what the caller shall send again.

    most_bytes: of a body. most_s: for the body to come, and again for `handle`. door: an address of its own, where
    the route is answered beside [web]'s or without it. talk: has a WebSocket to itself, as long as it takes, where
    a caller asks for one; each text has at most `most_bytes`.
    """

    path: str
    admits: Callable[[Mapping[str, str]], bool]
    handle: Callable[[HttpCall], Awaitable[HttpAnswer]]
    methods: frozenset[str] = frozenset({"POST"})
    most_bytes: int = 2**20
    most_s: float = 10.0
    door: Address | None = None
    talk: Callable[[HttpCall, Talk], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class RouteWish:
    """A route as the settings alone tell it. key: the setting, such as "[telegram] webhook_url". otherwise: what
    may be set where [web] can't answer it."""

    key: str
    path: str
    door: Address | None
    otherwise: str
