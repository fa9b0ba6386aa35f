"""Feishu's long connection: events come as frames, each of which is answered once it is stored.

What is answered with 500, or not within three seconds, is sent again:
https://open.feishu.cn/document/server-docs/event-subscription-guide/event-subscription-configure-/request-url-configuration-case
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import aiohttp

from glmbot.errors import AdapterError, PlatformRefused, StoreError, outage
from glmbot.http.connection import LastingConnection
from glmbot.http.quiet import Quiet
from glmbot_feishu.client import Client
from glmbot_feishu.frames import CONTROL, DATA, Frame, read_frame, written

__all__ = ["Connection", "Parts"]

_log = logging.getLogger(__name__)

_OPENS_S = 30.0
_USUAL_PING_S = 120.0
_SHORTEST_PING_S, _LONGEST_PING_S = 5.0, 600.0
_LARGEST_FRAME = 4 * 2**20
_HANDSHAKE, _HANDSHAKE_WORDS = "handshake-status", "handshake-msg"
_REFUSED = frozenset({"403", "514"})

Take = Callable[[bytes], Awaitable[Mapping[str, Any] | None]]
"""Stores an event; what it returns is what the person who caused it sees at once. Raises StoreError."""


class Connection(LastingConnection):
    def __init__(self, client: Client, take: Take) -> None:
        super().__init__()
        self._quiet = Quiet()
        self._client = client
        self._take = take
        self._parts = Parts()
        self._service = 0
        self._ping_s = _USUAL_PING_S

    async def open(self) -> None:
        """Raises AdapterError."""
        found = await self._client.endpoint()
        url = found.get("URL")
        if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
            raise AdapterError("Feishu gives no long connection: its answer has no address")
        config = found.get("ClientConfig")
        self._configure(cast(Mapping[str, Any], config) if isinstance(config, Mapping) else {})
        service = parse_qs(urlsplit(url).query).get("service_id", ["0"])[0]
        self._service = int(service) if service.isascii() and service.isdigit() and len(service) < 10 else 0
        try:
            async with asyncio.timeout(_OPENS_S):
                self._socket = await self._client.api.session.ws_connect(
                    url, proxy=self._client.api.proxy, max_msg_size=_LARGEST_FRAME
                )
        except aiohttp.WSServerHandshakeError as error:
            headers = error.headers or {}
            if headers.get(_HANDSHAKE) in _REFUSED:
                words = str(headers.get(_HANDSHAKE_WORDS, ""))[:200]
                raise PlatformRefused(
                    f"[feishu] the long connection is refused: {words}; choose it for events at"
                    " https://open.feishu.cn/app"
                ) from error
            raise AdapterError(f"Feishu: the long connection was answered {error.status}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdapterError(f"Feishu: no long connection ({outage(error)})") from error

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        pinging = asyncio.create_task(self._keep_alive(socket))
        try:
            await self._receive(socket)
        finally:
            pinging.cancel()

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            try:
                answer = await self._handle(read_frame(message.data))
                if answer is not None:
                    await socket.send_bytes(written(answer))
            except (aiohttp.ClientError, OSError):
                return
            except (ValueError, TypeError, RecursionError) as error:
                if self._quiet.lets(type(error).__name__):
                    _log.warning(
                        "Feishu: a frame that could not be read is left out (%s)", type(error).__name__
                    )

    async def _handle(self, frame: Frame) -> Frame | None:
        if frame.method == CONTROL:
            if frame.headers.get("type") == "pong" and frame.payload:
                self._configure(json.loads(frame.payload))
            return None
        if frame.method != DATA or frame.headers.get("type") != "event":
            return None
        payload = self._parts.whole(frame)
        if payload is None:
            return None
        status, answer = 200, None
        try:
            answer = await self._take(payload)
        except StoreError as error:
            _log.warning("Feishu: an event could not be stored, and comes again: %s", error)
            status = 500
        said: dict[str, Any] = {"code": status, "headers": None, "data": None}
        if answer is not None:
            said["data"] = base64.b64encode(json.dumps(answer).encode()).decode()
        return replace(frame, payload=json.dumps(said).encode(), headers={**frame.headers, "biz_rt": "1"})

    def _configure(self, config: Mapping[str, Any]) -> None:
        """What Feishu wishes, within bounds."""
        wish = config.get("PingInterval")
        if type(wish) is int:
            self._ping_s = min(max(float(wish), _SHORTEST_PING_S), _LONGEST_PING_S)

    async def _keep_alive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with suppress(aiohttp.ClientError, OSError):
            while True:
                await socket.send_bytes(written(Frame(CONTROL, self._service, {"type": "ping"})))
                await asyncio.sleep(self._ping_s)


@dataclass(slots=True)
class Parts:
    """Events that come in several frames: only a few at a time, and none for ever."""

    most: int = 20
    most_parts: int = 64
    _waiting: dict[str, dict[int, bytes]] = field(default_factory=dict[str, dict[int, bytes]])

    def whole(self, frame: Frame) -> bytes | None:
        """The event, once its last part is here. Raises ValueError."""
        count, index = int(frame.headers.get("sum", "1")), int(frame.headers.get("seq", "0"))
        if count <= 1:
            return frame.payload
        if count > self.most_parts or not 0 <= index < count:
            raise ValueError("an event of too many parts")
        name = frame.headers.get("message_id", "")
        parts = self._waiting.setdefault(name, {})
        parts[index] = frame.payload
        if len(parts) == count:
            del self._waiting[name]
            return b"".join(parts[each] for each in range(count))
        if len(self._waiting) > self.most:
            del self._waiting[next(iter(self._waiting))]
        return None
