"""A WebSocket that an adapter opens to its platform, and opens again whenever it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress

import aiohttp

from glmbot.background import reconnecting

__all__ = ["LastingConnection"]


class LastingConnection(ABC):
    def __init__(self) -> None:
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @abstractmethod
    async def open(self) -> None:
        """Set `_socket`. Raises AdapterError."""

    @abstractmethod
    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Take what comes until the connection ends. Raises PlatformRefused where it is not to be opened again."""

    async def run(self) -> None:
        """Listen for ever, and connect again when the connection ends. Raises PlatformRefused."""
        await reconnecting(self._attend, self.open)

    async def close(self) -> None:
        if self._socket is not None:
            with suppress(aiohttp.ClientError, OSError):
                await self._socket.close()

    async def _attend(self) -> bool:
        if self._socket is None or self._socket.closed:
            return False
        await self._listen(self._socket)
        return True
