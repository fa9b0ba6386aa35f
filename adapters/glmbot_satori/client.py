"""A Satori server: its events over WebSocket, which go on where they were, and its calls over HTTP.

https://satori.js.org/en-US/protocol/events.html#websocket and https://satori.js.org/en-US/protocol/api.html
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, cast

import aiohttp

from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    Missing,
    NotWritten,
    Refused,
    Unreachable,
    Unsent,
)
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.talk import SocketTalk
from glmbot_satori.normalize import Login, login_of
from glmbot_satori.settings import SatoriSettings

__all__ = ["Client", "Events"]

_log = logging.getLogger(__name__)

# https://satori.js.org/en-US/protocol/events.html#signals
_EVENT, _PING, _IDENTIFY, _READY = 0, 1, 3, 4
# "the client should send a PING every 10 seconds"; so many may stay unanswered.
_PING_S = 10.0
_MOST_UNANSWERED = 3
_READY_S = 10.0
_ANSWER_S = 30.0
_LARGEST = 1 << 20
_RETRY_S, _LONGEST_RETRY_S = 5.0, 3600.0
# What servers close a WebSocket with whose token is wrong: koishi's and satori-python's.
_UNAUTHORIZED = frozenset({3000, 4001, 4004})


class Client:
    """Calls. Open it once, close it in the end."""

    def __init__(self, settings: SatoriSettings, token: str) -> None:
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {token}"}
        self._proxy = settings.proxy_for(settings.url)
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER_S))

    async def close(self) -> None:
        await self.http.close()

    async def call(self, platform: str, self_id: str, method: str, **params: object) -> Any:
        """Raises the exceptions of `glmbot.delivery.outlet`."""
        headers = {
            **self._headers,
            "Satori-Platform": platform,
            "Satori-User-ID": self_id,
            # Those of servers before protocol 1.2.
            "X-Platform": platform,
            "X-Self-ID": self_id,
        }
        url = f"{self._settings.url}/v1/{method}"
        try:
            # A redirect would carry the token to wherever it leads.
            async with self.http.post(
                url, json=params, headers=headers, proxy=self._proxy, allow_redirects=False
            ) as answer:
                body = await _body(answer)
                if answer.status != HTTPStatus.OK:
                    raise refusal(answer.status, body.decode(errors="replace")[:300], answer.headers)
        except aiohttp.ClientConnectorError as error:
            raise Unsent(f"Satori: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"Satori: {error or 'nothing came'}") from error
        except (ValueError, TypeError) as error:
            # What stands in an id of a platform may be no header.
            raise Refused(f"{type(error).__name__}") from error
        with suppress(ValueError, RecursionError):
            return json.loads(body)
        return None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Nothing that is longer is an answer of Satori's: the rest is left."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > _LARGEST:
            break
    return bytes(body)


def refusal(status: int, words: str, headers: Mapping[str, str]) -> NotWritten:
    """https://satori.js.org/en-US/protocol/api.html#status-codes"""
    said = f"Satori: {status} {words}"
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Flooded(_retry_after(headers))
        case HTTPStatus.NOT_FOUND:
            return Missing(said)
        case HTTPStatus.GONE:
            return Gone(said)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.INTERNAL_SERVER_ERROR:
            return Closed(said)
        case HTTPStatus.BAD_GATEWAY | HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.GATEWAY_TIMEOUT:
            return Unreachable(said)
        case _:
            return Refused(said)


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(max(float(headers.get("Retry-After", _RETRY_S)), 0.1), _LONGEST_RETRY_S)
    except ValueError:
        return _RETRY_S


class Events:
    """What happens, one after the other, and again from where it was when a connection ends."""

    def __init__(self, settings: SatoriSettings, token: str) -> None:
        self._settings = settings
        self._token = token
        self._last: int | None = None
        self.logins: dict[tuple[str, str], Login] = {}

    @asynccontextmanager
    async def connected(self, http: aiohttp.ClientSession) -> AsyncGenerator[SocketTalk]:
        """Identified and ready. Raises AdapterError."""
        settings = self._settings
        try:
            async with asyncio.timeout(_READY_S):
                socket = await http.ws_connect(
                    settings.events_url,
                    headers={"Authorization": f"Bearer {self._token}"},
                    proxy=settings.proxy_for(settings.url),
                    max_msg_size=_LARGEST,
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise PlatformRefused("[satori] token: the server refuses it") from error
            raise AdapterError(f"[satori] url: it answers {error.status}, and no WebSocket") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdapterError(f"[satori] url can't be reached: {error or 'nothing came'}") from error
        talk = SocketTalk(socket)
        try:
            try:
                await self._identify(talk)
            except ConnectionError as error:
                if socket.close_code in _UNAUTHORIZED:
                    raise PlatformRefused("[satori] token: the server refuses it") from error
                raise AdapterError("[satori] the server ended the connection before it was ready") from error
            yield talk
        finally:
            await socket.close()

    async def _identify(self, talk: SocketTalk) -> None:
        """Raises ConnectionError, AdapterError."""
        body: dict[str, object] = {"token": self._token}
        if self._last is not None:
            # `sequence` before protocol 1.2.
            body |= {"sn": self._last, "sequence": self._last}
        await talk.send(json.dumps({"op": _IDENTIFY, "body": body}))
        try:
            async with asyncio.timeout(_READY_S):
                signal = await self._signal(talk)
                while signal.get("op") != _READY:
                    signal = await self._signal(talk)
        except TimeoutError as error:
            raise AdapterError("[satori] the server does not say that it is ready") from error
        told = signal.get("body")
        logins = cast(dict[str, Any], told).get("logins") if isinstance(told, dict) else None
        self.logins.clear()
        for given in cast(Sequence[object], logins) if isinstance(logins, list) else ():
            self.learn(given)

    def learn(self, given: object, *, gone: bool = False) -> None:
        """Of a login."""
        try:
            login = login_of(given)
        except ValueError:
            return
        if login is None:
            return
        key = (login.platform, login.self_id)
        if gone:
            self.logins.pop(key, None)
        elif len(self.logins) < 1000:
            known = self.logins.get(key)
            # News of its status alone say nothing of what it can.
            self.logins[key] = known if known is not None and not login.features else login

    async def read(self, talk: SocketTalk, take: Callable[[dict[str, Any]], Awaitable[None]]) -> str:
        """Until it ends: why. What `take` raises, too, ends it, and that event comes again."""
        unanswered = 0
        pinging = asyncio.create_task(_ping(talk))
        try:
            while True:
                try:
                    async with asyncio.timeout(_PING_S):
                        signal = await self._signal(talk)
                except TimeoutError:
                    unanswered += 1
                    if unanswered >= _MOST_UNANSWERED:
                        return f"nothing came for {unanswered * _PING_S:.0f} s"
                    continue
                except ConnectionError:
                    return "it was closed"
                unanswered = 0
                body = signal.get("body")
                if signal.get("op") == _EVENT and isinstance(body, dict):
                    event = cast(dict[str, Any], body)
                    number = event.get("sn", event.get("id"))
                    if self._last is None and type(number) is int:
                        # Else the very first could not be asked for again.
                        self._last = number - 1
                    await take(event)
                    if type(number) is int:
                        self._last = number
        finally:
            pinging.cancel()

    async def _signal(self, talk: SocketTalk) -> dict[str, Any]:
        """Raises ConnectionError once there is none more."""
        text = await talk.receive()
        if text is None:
            raise ConnectionResetError
        try:
            signal = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return cast(dict[str, Any], signal) if isinstance(signal, dict) else {}


async def _ping(talk: SocketTalk) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(_PING_S)
            await talk.send(json.dumps({"op": _PING, "body": {}}))
