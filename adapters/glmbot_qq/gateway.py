"""QQ's gateway: events come through a WebSocket that the bot opens, in a session that the next one goes on with.

https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/interface-framework/event-emit.html: identify with intents,
heartbeat with the number of the last event, resume by session and number. What came before the number that is told
at a resumption does not come again, so it is that of the last event that was stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp

from glmbot.delivery.outlet import NotWritten
from glmbot.errors import AdapterError, PlatformRefused, StoreError, outage
from glmbot.http.connection import LastingConnection
from glmbot.http.fields import Fields, as_fields, as_object, fields_of, parsed
from glmbot.http.quiet import Quiet
from glmbot_qq.client import Client
from glmbot_qq.settings import Place

__all__ = ["Gateway", "intents_of"]

_log = logging.getLogger(__name__)

_OPENS_S = 30.0
_SHORTEST_BEAT_S, _LONGEST_BEAT_S = 1.0, 120.0
_LARGEST_FRAME = 2**20
_LONGEST_SESSION = 200
_DISPATCH, _HEARTBEAT, _IDENTIFY, _RESUME, _RECONNECT, _INVALID, _HELLO, _ACK = 0, 1, 2, 6, 7, 9, 10, 11

# 事件订阅 Intents, on the same page.
_INTENTS = {"guilds": 1 << 30, "guild_messages": 1 << 9, "guild_dms": 1 << 12, "groups": 1 << 25}
_INTERACTION = 1 << 26

# https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/error-trace/websocket.html
_INTENT_REFUSED = {4013, 4014}
_SHUT = {
    4914: "the bot was taken offline, and may connect to the sandbox alone: set sandbox, or publish it",
    4915: "the bot is banned",
}
_TOKEN_ENDED = 4004
# 4008 too fast, 4009 expired: 可以重试 RESUME. What is below is WebSocket's own.
_RESUMABLE = {4008, 4009}
_OWN_CODES = 4000

Take = Callable[[Fields], Awaitable[None]]
"""Stores an event. Raises StoreError."""


def intents_of(places: list[Place], *, buttons: bool) -> int:
    return sum(_INTENTS[place] for place in set(places)) | (_INTERACTION if buttons else 0)


class Gateway(LastingConnection):
    def __init__(self, client: Client, places: list[Place], take: Take, *, buttons: bool) -> None:
        super().__init__()
        self._client = client
        self._places = places
        self._intents = intents_of(places, buttons=buttons)
        self._take = take
        self._session = ""
        self._last: int | None = None
        self._ready = False
        self._beat_s = _LONGEST_BEAT_S
        self._answered = True
        self._quiet = Quiet()

    async def open(self) -> None:
        """Raises AdapterError."""
        url = await self._client.gateway()
        try:
            async with asyncio.timeout(_OPENS_S):
                self._socket = socket = await self._client.api.session.ws_connect(
                    url, proxy=self._client.api.proxy, max_msg_size=_LARGEST_FRAME
                )
                self._ready = False
                while not self._ready:
                    if not await self._next(socket):
                        self._judge(socket.close_code)
                        raise AdapterError(f"QQ: the gateway has closed ({socket.close_code})")
        except (aiohttp.ClientError, OSError, TimeoutError, NotWritten) as error:
            await self.close()
            raise AdapterError(f"QQ: no connection to the gateway ({outage(error)})") from error
        except AdapterError:
            await self.close()
            raise

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        beating = asyncio.create_task(self._beat(socket))
        try:
            while await self._next(socket):
                pass
        except (aiohttp.ClientError, OSError, NotWritten) as error:
            _log.info("QQ: the connection to the gateway has ended (%s)", type(error).__name__)
        finally:
            beating.cancel()
        self._judge(socket.close_code)

    async def _next(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Take one frame. False when the connection has ended, or is to."""
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return message.type is aiohttp.WSMsgType.BINARY
        try:
            frame = as_object(parsed(message.data))
        except ValueError:
            if self._quiet.lets("frame"):
                _log.warning("QQ: a frame that could not be read is left out")
            return True
        match frame.get("op"):
            case op if op == _HELLO:
                self._configure(fields_of(frame, "d"))
                await self._greet(socket)
            case op if op == _DISPATCH:
                return await self._dispatch(socket, frame)
            case op if op == _HEARTBEAT:
                await socket.send_json({"op": _HEARTBEAT, "d": self._last})
            case op if op == _ACK:
                self._answered = True
            case op if op == _INVALID:
                self._forget()
                await socket.close()
                return False
            case op if op == _RECONNECT:
                await socket.close()
                return False
            case _:
                pass
        return True

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        said: dict[str, Any] = {"token": await self._client.token()}
        if self._session:
            said |= {"session_id": self._session, "seq": self._last}
            await socket.send_json({"op": _RESUME, "d": said})
        else:
            said |= {"intents": self._intents, "shard": [0, 1], "properties": {}}
            await socket.send_json({"op": _IDENTIFY, "d": said})

    async def _dispatch(self, socket: aiohttp.ClientWebSocketResponse, frame: Fields) -> bool:
        kind = frame.get("t")
        if kind == "READY":
            session = as_fields(frame.get("d")).get("session_id")
            self._session = session if isinstance(session, str) and len(session) <= _LONGEST_SESSION else ""
            self._ready = True
        elif kind == "RESUMED":
            self._ready = True
        else:
            try:
                await self._take(frame)
            except StoreError as error:
                _log.warning("QQ: an event could not be stored, and comes again: %s", error)
                await socket.close()
                return False
        number = frame.get("s")
        if type(number) is int and 0 < number < 2**63:
            self._last = number
        return True

    def _configure(self, hello: Fields) -> None:
        """What QQ wishes, within bounds."""
        wish = hello.get("heartbeat_interval")
        if type(wish) is int:
            self._beat_s = min(max(wish / 1000, _SHORTEST_BEAT_S), _LONGEST_BEAT_S)

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._answered = True
        with suppress(aiohttp.ClientError, OSError):
            while self._answered:
                self._answered = False
                await socket.send_json({"op": _HEARTBEAT, "d": self._last})
                await asyncio.sleep(self._beat_s)
            _log.warning("QQ: the gateway answers no heartbeat; connecting again")
            await socket.close()

    def _judge(self, code: int | None) -> None:
        """What the end of a connection says about the next one. Raises PlatformRefused where there can be none."""
        if code in _INTENT_REFUSED:
            raise PlatformRefused(
                f"[qq] the gateway refuses the bot's intents ({code}): take what was not granted out of places"
                f" ({', '.join(self._places)}), or switch buttons off; rights are asked for at https://q.qq.com"
            )
        if code in _SHUT:
            raise PlatformRefused(f"[qq] the gateway is shut ({code}): {_SHUT[code]}")
        if code == _TOKEN_ENDED:
            self._client.forget_token()
        if code is not None and code >= _OWN_CODES and code not in _RESUMABLE:
            self._forget()

    def _forget(self) -> None:
        """The session: the next connection is a new one."""
        self._session, self._last = "", None
