"""aiohttp's WebSockets, of the server and of the client, as what adapters talk through."""

from __future__ import annotations

from aiohttp import ClientWebSocketResponse, WSMsgType, web

__all__ = ["PING_S", "SocketTalk"]

PING_S = 30.0
"""Who does not answer a ping within half of that is gone: a connection may die without a word."""


class SocketTalk:
    """See `glmbot.http.routes.Talk`."""

    def __init__(self, socket: web.WebSocketResponse | ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> str | None:
        """What is no text (bytes, a text that is too long) ends it."""
        message = await self._socket.receive()
        return message.data if message.type is WSMsgType.TEXT else None

    async def send(self, text: str) -> None:
        if self._socket.closed:
            raise ConnectionResetError("the WebSocket is closed")
        await self._socket.send_str(text)

    async def close(self) -> None:
        await self._socket.close()
