"""The two ways to an implementation: we connect to it, or it connects to us."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp

from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.routes import HttpAnswer, HttpCall, Route, Talk
from glmbot.http.talk import PING_S, SocketTalk
from glmbot_onebot.session import LARGEST_TEXT
from glmbot_onebot.settings import OneBotSettings

__all__ = ["connected", "reverse_route"]

_CONNECT_S = 15.0


@asynccontextmanager
async def connected(settings: OneBotSettings, token: str) -> AsyncGenerator[Talk]:
    """Forward WebSocket. Raises AdapterError."""
    # A redirect would carry the token to wherever it leads: none is followed when a WebSocket is asked for.
    headers = {"Authorization": f"Bearer {token}"}
    http = settings.url.replace("ws", "http", 1)
    async with aiohttp.ClientSession() as client:
        try:
            async with asyncio.timeout(_CONNECT_S):
                socket = await client.ws_connect(
                    settings.url,
                    headers=headers,
                    proxy=settings.proxy_for(http),
                    heartbeat=PING_S,
                    max_msg_size=LARGEST_TEXT,
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise PlatformRefused("[onebot] token: the implementation refuses it") from error
            raise AdapterError(f"[onebot] url: it answers {error.status}, and no WebSocket") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdapterError(f"[onebot] url can't be reached: {error or 'nothing came'}") from error
        try:
            yield SocketTalk(socket)
        finally:
            await socket.close()


def reverse_route(
    settings: OneBotSettings, token: str, talk: Callable[[HttpCall, Talk], Awaitable[None]]
) -> Route:
    """Reverse WebSocket.
    https://github.com/botuniverse/onebot-11/blob/master/communication/ws-reverse.md: the token is in a header."""

    def admits(headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        # Bytes that are no UTF-8 come as halves of surrogate pairs.
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
        return same and scheme.lower() in ("bearer", "token")

    async def handle(_: HttpCall) -> HttpAnswer:
        return HttpAnswer(426, "this is a reverse WebSocket of OneBot 11")

    return Route(
        settings.path,
        admits,
        handle,
        methods=frozenset({"GET"}),
        most_bytes=LARGEST_TEXT,
        door=settings.door,
        talk=talk,
    )
