"""What comes from a server is read no faster than this, so that one that floods keeps nobody else from anything:
its pipe or connection fills, and it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import anyio
from mcp.client._transport import ReadStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCResponse

__all__ = ["LARGEST_MESSAGE", "Metered", "Rate"]

LARGEST_MESSAGE = 4 * 2**20
"""Bytes of one message from a server."""
_MESSAGES_A_SECOND, _MOST_MESSAGES = 500.0, 500.0


class Rate:
    """A bucket: so many a second, and so many at once after a while of silence."""

    def __init__(self, a_second: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_second = a_second
        self._at_once = at_once
        self._clock = clock
        self._left = at_once
        self._at = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take it, and return the seconds to wait for it."""
        now = self._clock()
        self._left = min(self._at_once, self._left + (now - self._at) * self._a_second) - amount
        self._at = now
        return max(0.0, -self._left / self._a_second)


class Metered:
    """A transport's stream of messages, at a bounded rate; notifications that are too many are passed over.
    `on_end` is called when it has ended."""

    def __init__(self, inner: ReadStream[SessionMessage | Exception], on_end: Callable[[], None]) -> None:
        self._inner = inner
        self._on_end = on_end
        self._rate = Rate(_MESSAGES_A_SECOND, _MOST_MESSAGES)

    async def receive(self) -> SessionMessage | Exception:
        while True:
            try:
                item = await self._inner.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                self._on_end()
                raise
            if (wait := self._rate.take()) > 0:
                await asyncio.sleep(wait)
                if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCNotification):
                    continue
            if isinstance(item, SessionMessage):
                _without_output_schemas(item)
            return item

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


def _without_output_schemas(item: SessionMessage) -> None:
    """The SDK holds results against them on the event loop, and a pattern of a server's may run for ever."""
    message = item.message
    if not isinstance(message, JSONRPCResponse):
        return
    tools = message.result.get("tools")
    for tool in cast(list[Any], tools) if isinstance(tools, list) else []:
        if isinstance(tool, dict):
            cast(dict[str, Any], tool).pop("outputSchema", None)
